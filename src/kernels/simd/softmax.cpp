#include "kernels/simd/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/softmax.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

constexpr float kLowest = -std::numeric_limits<float>::infinity();

float RowMax(const float* x, std::size_t n) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  V32 m0 = hn::Set(d, kLowest), m1 = m0;
  std::size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    m0 = max_skip_nan(hn::LoadU(d, x + i), m0);
    m1 = max_skip_nan(hn::LoadU(d, x + i + lanes), m1);
  }
  float best = max_lanes(max_skip_nan(m1, m0));
  for (; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

/// The first index in [begin, n) whose value is `> floor` (or `== floor` if Equal); n if none.
template <bool Equal>
HWY_INLINE std::size_t find(const float* x, std::size_t begin, std::size_t n, float floor) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  const V32 f = hn::Set(d, floor);
  std::size_t i = begin;
  for (; i + lanes <= n; i += lanes) {
    const V32 v = hn::LoadU(d, x + i);
    const auto hit = hn::FindFirstTrue(d, Equal ? hn::Eq(v, f) : hn::Gt(v, f));
    if (hit >= 0) return i + static_cast<std::size_t>(hit);
  }
  for (; i < n; ++i) {
    if (Equal ? x[i] == floor : x[i] > floor) return i;
  }
  return n;
}

std::size_t Argmax(const float* x, std::size_t n) {
  const std::size_t i = find<true>(x, 0, n, RowMax(x, n));
  return i < n ? i : 0;
}

std::size_t FindAbove(const float* x, std::size_t begin, std::size_t n, float floor) {
  return find<false>(x, begin, n, floor);
}

/// Sum of exp(scale * (x[i] - max)); also written to out unless null. f32 in runs of 16 vectors, then double.
double SumExp(const float* x, std::size_t n, float max, float scale, float* out) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  const V32 m = hn::Set(d, max), s = hn::Set(d, scale);
  double total = 0;
  std::size_t i = 0;
  while (i + lanes <= n) {
    V32 run = hn::Zero(d);
    for (int k = 0; k < 16 && i + lanes <= n; ++k, i += lanes) {
      const V32 e = exp_neg(hn::Mul(s, hn::Sub(hn::LoadU(d, x + i), m)));
      if (out != nullptr) hn::StoreU(e, d, out + i);
      run = hn::Add(run, e);
    }
    total += static_cast<double>(sum_lanes(run));
  }
  if (i < n) {
    HWY_ALIGN float part[hn::MaxLanes(d)];
    hn::Store(exp_neg(hn::Mul(s, hn::Sub(load_part(x + i, n - i, max), m))), d, part);
    for (std::size_t k = 0; k < n - i; ++k) {
      total += static_cast<double>(part[k]);
      if (out != nullptr) out[i + k] = part[k];
    }
  }
  return total;
}

void Scale(float* x, std::size_t n, float by) {
  const V32 s = hn::Set(F32(), by);
  map(x, n, x, [s](V32 v) { return hn::Mul(v, s); });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(RowMax);
HWY_EXPORT(Argmax);
HWY_EXPORT(FindAbove);
HWY_EXPORT(SumExp);
HWY_EXPORT(Scale);

float row_max(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(RowMax)(x, n); }

std::size_t argmax(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(Argmax)(x, n); }

float log_sum_exp(const float* x, std::size_t n) {
  const float max = row_max(x, n);
  if (max == -std::numeric_limits<float>::infinity()) {  // nothing but -infinity and NaN
    return std::any_of(x, x + n, [](float v) { return std::isnan(v); })
               ? std::numeric_limits<float>::quiet_NaN()
               : max;
  }
  return static_cast<float>(max + std::log(HWY_DYNAMIC_DISPATCH(SumExp)(x, n, max, 1.0f, nullptr)));
}

void softmax(const float* x, std::size_t n, float scale, float* out) {
  const double total = HWY_DYNAMIC_DISPATCH(SumExp)(x, n, row_max(x, n), scale, out);
  HWY_DYNAMIC_DISPATCH(Scale)(out, n, static_cast<float>(1.0 / total));
}

void top_k(const float* x, std::size_t n, std::size_t k, std::uint32_t* index) {
  if (k == 0) return;
  const auto key = [x](std::uint32_t i) {
    return std::isnan(x[i]) ? -std::numeric_limits<float>::infinity() : x[i];
  };
  const auto before = [&](std::uint32_t a, std::uint32_t b) {
    return key(a) > key(b) || (key(a) == key(b) && a < b);
  };
  // A heap of the k best so far, the worst on top; whole vectors that cannot enter are skipped.
  for (std::size_t i = 0; i < k; ++i) index[i] = static_cast<std::uint32_t>(i);
  std::make_heap(index, index + k, before);
  const auto find_above = HWY_DYNAMIC_DISPATCH(FindAbove);
  for (std::size_t i = find_above(x, k, n, key(index[0])); i < n;
       i = find_above(x, i + 1, n, key(index[0]))) {
    std::pop_heap(index, index + k, before);
    index[k - 1] = static_cast<std::uint32_t>(i);
    std::push_heap(index, index + k, before);
  }
  std::sort_heap(index, index + k, before);
}

}  // namespace metal_candle::simd
#endif
