#include "kernels/simd/activation.h"

#include <iterator>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/activation.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

/// x / (1 + exp(-y)).
HWY_INLINE V32 times_sigmoid(V32 x, V32 y) {
  const V32 one = hn::Set(F32(), 1.0f);
  return hn::Div(x, hn::Add(one, exp_any(hn::Neg(y))));
}

/// Phi(x) within 2e-7 for |x| <= kPhiEnd, where it is within 6e-8 of 0 or 1: 1/2 + x P(x^2), P of degree 13
/// in the range's own coordinate, fitted for least error. No division: one takes as long as all of this.
constexpr float kPhiEnd = 5.3f;
constexpr float kPhi[] = {-0.000651965733f, 0.00166833191f, -0.00143365853f, 0.00192519685f, -0.00546271075f,
                          0.00960007496f,   -0.0133963991f, 0.0186741855f,   -0.0252429582f, 0.0321183763f,
                          -0.039595075f,    0.0492619276f,  -0.0665183142f,  0.133392587f};

HWY_INLINE V32 gelu_vec(V32 x) {
  const F32 d;
  const V32 end = hn::Set(d, kPhiEnd), start = hn::Neg(end);
  const V32 inner = hn::Min(hn::Max(x, start), end);
  const V32 t = hn::MulAdd(hn::Mul(inner, inner), hn::Set(d, 2 / (kPhiEnd * kPhiEnd)), hn::Set(d, -1.0f));
  V32 p = hn::Set(d, kPhi[0]);
  HWY_UNROLL(13)
  for (std::size_t i = 1; i < std::size(kPhi); ++i) p = hn::MulAdd(p, t, hn::Set(d, kPhi[i]));
  const V32 y = hn::Mul(x, hn::MulAdd(inner, p, hn::Set(d, 0.5f)));
  return hn::IfThenZeroElse(hn::Lt(x, start), hn::IfThenElse(hn::Gt(x, end), x, y));
}

/// tanh form as a sigmoid, 0.5 (1 + tanh u) = sigmoid(2u), which loses nothing where tanh nears -1.
HWY_INLINE V32 gelu_tanh_vec(V32 x) {
  const F32 d;
  const V32 cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.044715f), hn::Set(d, 1.0f));
  return times_sigmoid(x, hn::Mul(hn::Mul(x, cubic), hn::Set(d, 1.5957691216f)));
}

void Silu(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return times_sigmoid(v, v); });
}
void Swiglu(const float* gate, const float* up, std::size_t n, float* out) {
  map(gate, up, n, out, [](V32 g, V32 u) { return hn::Mul(times_sigmoid(g, g), u); });
}
template <bool has_bias>
void GeluRow(const float* x, const float* bias, std::size_t n, float* y) {
  if constexpr (has_bias)
    map(x, bias, n, y, [](V32 v, V32 b) { return gelu_vec(hn::Add(v, b)); });
  else
    map(x, n, y, [](V32 v) { return gelu_vec(v); });
}
void GeluRows(const float* x, std::size_t x_stride, const float* bias, std::size_t rows, std::size_t n,
              float* y, std::size_t y_stride) {
  const auto row = bias ? GeluRow<true> : GeluRow<false>;
  for (; rows > 0; --rows, x += x_stride, y += y_stride) row(x, bias, n, y);
}
void GeluTanh(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return gelu_tanh_vec(v); });
}
void GegluTanh(const float* gate, const float* up, std::size_t n, float* out) {
  map(gate, up, n, out, [](V32 g, V32 u) { return hn::Mul(gelu_tanh_vec(g), u); });
}
void Exp(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return exp_any(v); });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(Silu);
HWY_EXPORT(Swiglu);
HWY_EXPORT(GeluRows);
HWY_EXPORT(GeluTanh);
HWY_EXPORT(GegluTanh);
HWY_EXPORT(Exp);

void silu(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(Silu)(x, n, out); }
void swiglu(const float* gate, const float* up, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(Swiglu)(gate, up, n, out);
}
void gelu(const float* x, std::size_t n, float* out) { gelu_rows(x, n, nullptr, 1, n, out, n); }
void gelu_rows(const float* x, std::size_t x_stride, const float* bias, std::size_t rows, std::size_t n,
               float* y, std::size_t y_stride) {
  HWY_DYNAMIC_DISPATCH(GeluRows)(x, x_stride, bias, rows, n, y, y_stride);
}
void gelu_tanh(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(GeluTanh)(x, n, out); }
void geglu_tanh(const float* gate, const float* up, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(GegluTanh)(gate, up, n, out);
}
void exp(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(Exp)(x, n, out); }

}  // namespace metal_candle::simd
#endif
