// Vector functions shared by the Highway kernels of this folder: exp, tails and sums of lanes. Included once
// per SIMD target, after hwy/highway.h, hence the toggled guard instead of #pragma once.
#if defined(METAL_CANDLE_ACTIVATION_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_ACTIVATION_INL
#undef METAL_CANDLE_ACTIVATION_INL
#else
#define METAL_CANDLE_ACTIVATION_INL
#endif

#include <cstddef>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using V32 = hn::Vec<F32>;

/// The first `count` < lanes floats at p, the other lanes `fill`. Reads nothing beyond.
inline V32 load_part(const float* p, std::size_t count, float fill) {
  const F32 d;
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(hn::Set(d, fill), d, lanes);
  std::memcpy(lanes, p, count * sizeof(float));
  return hn::Load(d, lanes);
}

inline void store_part(V32 v, float* p, std::size_t count) {
  const F32 d;
  HWY_ALIGN float lanes[hn::MaxLanes(d)];
  hn::Store(v, d, lanes);
  std::memcpy(p, lanes, count * sizeof(float));
}

/// out[i] = f(x[i]) and out[i] = f(x[i], y[i]) over whole vectors and the tail.
template <class F>
HWY_INLINE void map(const float* x, std::size_t n, float* out, const F& f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i)), d, out + i);
  if (i < n) store_part(f(load_part(x + i, n - i, 0)), out + i, n - i);
}

template <class F>
HWY_INLINE void map(const float* x, const float* y, std::size_t n, float* out, const F& f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, out + i);
  if (i < n) store_part(f(load_part(x + i, n - i, 0), load_part(y + i, n - i, 0)), out + i, n - i);
}

HWY_INLINE float sum_lanes(V32 v) { return hn::GetLane(hn::SumOfLanes(F32(), v)); }
HWY_INLINE float max_lanes(V32 v) { return hn::GetLane(hn::MaxOfLanes(F32(), v)); }

/// a where a > b, else b: unlike Max, the same on every target if a is NaN (it is skipped).
HWY_INLINE V32 max_skip_nan(V32 a, V32 b) { return hn::IfThenElse(hn::Gt(a, b), a, b); }

/// 2^i for i in [-126, 127].
template <class VI>
HWY_INLINE V32 exp2_int(VI i) {
  const hn::RebindToSigned<F32> di;
  return hn::BitCast(F32(), hn::ShiftLeft<23>(hn::Add(i, hn::Set(di, 127))));
}

/// exp(x) / 2^n with n = round(x / ln 2): exp(r) = 1 + r + r^2 q(r) on |r| <= ln2/2, q of degree 4 fitted
/// for least relative error (3e-9). ln 2 is split in two so that r is exact to an ulp without FMA too.
HWY_INLINE V32 exp_reduced(V32 x, V32 n) {
  const F32 d;
  V32 r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V32 q = hn::Set(d, 0.00139506f);
  q = hn::MulAdd(q, r, hn::Set(d, 0.00836895f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.0416662f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.16666518f));
  q = hn::MulAdd(q, r, hn::Set(d, 0.5f));
  return hn::Add(hn::MulAdd(q, hn::Mul(r, r), r), hn::Set(d, 1.0f));
}

/// exp(x) for all x within 2 ulp, subnormal results included; NaN gives NaN.
HWY_INLINE V32 exp_any(V32 x) {
  const F32 d;
  const V32 c = hn::Min(hn::Max(x, hn::Set(d, -105.0f)), hn::Set(d, 90.0f));
  const auto n = hn::NearestInt(hn::Mul(c, hn::Set(d, 1.44269504f)));
  const auto half = hn::ShiftRight<1>(n);  // 2^n in two factors: n reaches -151 and 130
  const V32 y =
      hn::Mul(hn::Mul(exp_reduced(c, hn::ConvertTo(d, n)), exp2_int(half)), exp2_int(hn::Sub(n, half)));
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

/// exp(x) for x <= 0, the hot one: results below 1.2e-38 become zero; NaN gives NaN.
HWY_INLINE V32 exp_neg(V32 x) {
  const F32 d;
  const auto n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504f)));
  const V32 y = hn::Mul(exp_reduced(x, hn::ConvertTo(d, n)), exp2_int(n));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.0f)), y);
}

/// tanh(x), absolute error 2e-7.
HWY_INLINE V32 tanh_any(V32 x) {
  const F32 d;
  const V32 e = exp_any(hn::Add(x, x));
  return hn::Sub(hn::Set(d, 1.0f), hn::Div(hn::Set(d, 2.0f), hn::Add(e, hn::Set(d, 1.0f))));
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();
#endif
