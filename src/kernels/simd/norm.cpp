#include "kernels/simd/norm.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/norm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

/// Sum of f(x[i]) with four accumulators, which also keeps the f32 rounding error small for long rows.
template <class F>
HWY_INLINE float sum(const float* x, std::size_t n, const F& f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  V32 s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, f(hn::LoadU(d, x + i)));
    s1 = hn::Add(s1, f(hn::LoadU(d, x + i + lanes)));
    s2 = hn::Add(s2, f(hn::LoadU(d, x + i + 2 * lanes)));
    s3 = hn::Add(s3, f(hn::LoadU(d, x + i + 3 * lanes)));
  }
  for (; i + lanes <= n; i += lanes) s0 = hn::Add(s0, f(hn::LoadU(d, x + i)));
  float tail = 0;
  if (i < n) {
    HWY_ALIGN float part[hn::MaxLanes(d)];
    hn::Store(f(load_part(x + i, n - i, 0)), d, part);
    for (std::size_t k = 0; k < n - i; ++k) tail += part[k];
  }
  return sum_lanes(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))) + tail;
}

void RmsNorm(const float* x, const float* weight, float eps, std::size_t n, float* out) {
  const float squares = sum(x, n, [](V32 v) { return hn::Mul(v, v); });
  const V32 scale = hn::Set(F32(), 1.0f / std::sqrt(squares / static_cast<float>(n) + eps));
  map(x, weight, n, out, [scale](V32 v, V32 w) { return hn::Mul(hn::Mul(v, scale), w); });
}

void Add(float* x, const float* delta, std::size_t n) {
  map(x, delta, n, x, [](V32 a, V32 b) { return hn::Add(a, b); });
}

template <bool accumulate, bool has_bias>
void StoreRow(const float* x, const float* bias, std::size_t n, float* y) {
  const F32 d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    V32 v = hn::LoadU(d, x + i);
    if constexpr (has_bias) v = hn::Add(v, hn::LoadU(d, bias + i));
    if constexpr (accumulate) v = hn::Add(hn::LoadU(d, y + i), v);
    hn::StoreU(v, d, y + i);
  }
  for (; i < n; ++i) y[i] = (accumulate ? y[i] : 0) + (x[i] + (has_bias ? bias[i] : 0));
}

void StoreRows(const float* x, std::size_t x_stride, const float* bias, std::size_t rows, std::size_t n,
               float* y, std::size_t y_stride, bool accumulate) {
  const auto store = accumulate ? (bias ? StoreRow<true, true> : StoreRow<true, false>)
                                : (bias ? StoreRow<false, true> : StoreRow<false, false>);
  for (; rows > 0; --rows, x += x_stride, y += y_stride) store(x, bias, n, y);
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, std::size_t n, float* out) {
  const float count = static_cast<float>(n);
  const V32 mean = hn::Set(F32(), sum(x, n, [](V32 v) { return v; }) / count);
  const float var = sum(x, n, [mean](V32 v) { return hn::Mul(hn::Sub(v, mean), hn::Sub(v, mean)); }) / count;
  const V32 scale = hn::Set(F32(), 1.0f / std::sqrt(var + eps));
  map(x, weight, n, out,
      [mean, scale](V32 v, V32 w) { return hn::Mul(hn::Mul(hn::Sub(v, mean), scale), w); });
  if (bias != nullptr) Add(out, bias, n);
}

void AddRmsNorm(float* residual, const float* delta, const float* weight, float eps, std::size_t n,
                float* out) {
  Add(residual, delta, n);
  RmsNorm(residual, weight, eps, n, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(RmsNorm);
HWY_EXPORT(AddRmsNorm);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(Add);
HWY_EXPORT(StoreRows);

void rms_norm(const float* x, const float* weight, float eps, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(RmsNorm)(x, weight, eps, n, out);
}
void add_rms_norm(float* residual, const float* delta, const float* weight, float eps, std::size_t n,
                  float* out) {
  HWY_DYNAMIC_DISPATCH(AddRmsNorm)(residual, delta, weight, eps, n, out);
}
void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::size_t n,
                float* out) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, weight, bias, eps, n, out);
}
void add(float* x, const float* delta, std::size_t n) { HWY_DYNAMIC_DISPATCH(Add)(x, delta, n); }
void add_rows(float* x, std::size_t x_stride, const float* delta, std::size_t delta_stride, std::size_t rows,
              std::size_t n) {
  store_rows(delta, delta_stride, nullptr, rows, n, x, x_stride, true);
}
void store_rows(const float* x, std::size_t x_stride, const float* bias, std::size_t rows, std::size_t n,
                float* y, std::size_t y_stride, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(StoreRows)(x, x_stride, bias, rows, n, y, y_stride, accumulate);
}

}  // namespace metal_candle::simd
#endif
