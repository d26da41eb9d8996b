#include "kernels/simd/convert.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/convert.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

// Integer arithmetic instead of the conversion instructions: Highway emulates those on the baseline target,
// and truncates to bf16, so the bits would differ between targets.
HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using U32 = hn::ScalableTag<std::uint32_t>;
using U16 = hn::Rebind<std::uint16_t, U32>;
using VU = hn::Vec<U32>;

HWY_INLINE VU select(hn::Mask<U32> mask, VU yes, VU no) { return hn::IfThenElse(mask, yes, no); }

HWY_INLINE VU to_bf16(VU x) {
  const U32 d;
  const VU odd = hn::And(hn::ShiftRight<16>(x), hn::Set(d, 1));
  const VU rounded = hn::ShiftRight<16>(hn::Add(x, hn::Add(odd, hn::Set(d, 0x7fff))));
  const VU quiet = hn::Or(hn::ShiftRight<16>(x), hn::Set(d, 0x40));
  const VU abs = hn::And(x, hn::Set(d, 0x7fffffff));
  return select(hn::Gt(abs, hn::Set(d, 0x7f800000)), quiet, rounded);
}

HWY_INLINE VU to_f16(VU x) {
  const U32 d;
  const hn::RebindToFloat<U32> df;
  const VU abs = hn::And(x, hn::Set(d, 0x7fffffff));
  const VU sign = hn::And(hn::ShiftRight<16>(x), hn::Set(d, 0x8000));
  const VU odd = hn::And(hn::ShiftRight<13>(abs), hn::Set(d, 1));
  // 2^-14 and above: round at bit 13, move the exponent from bias 127 to 15; a carry into it is right.
  const VU normal =
      hn::ShiftRight<13>(hn::Sub(hn::Add(abs, hn::Add(odd, hn::Set(d, 0xfff))), hn::Set(d, 0x38000000)));
  // Below: adding 0.5, whose ulp is f16's smallest subnormal, lets the addition round.
  const VU small =
      hn::Sub(hn::BitCast(d, hn::Add(hn::BitCast(df, abs), hn::Set(df, 0.5f))), hn::Set(d, 0x3f000000));
  const VU quiet = hn::Or(hn::And(hn::ShiftRight<13>(abs), hn::Set(d, 0x3ff)), hn::Set(d, 0x7e00));
  VU y = select(hn::Lt(abs, hn::Set(d, 0x38800000)), small, normal);
  y = select(hn::Gt(abs, hn::Set(d, 0x477fefff)), hn::Set(d, 0x7c00), y);
  y = select(hn::Gt(abs, hn::Set(d, 0x7f800000)), quiet, y);
  return hn::Or(y, sign);
}

HWY_INLINE VU from_bf16(VU x) { return hn::ShiftLeft<16>(x); }

HWY_INLINE VU from_f16(VU x) {
  const U32 d;
  const hn::RebindToFloat<U32> df;
  const VU abs = hn::And(x, hn::Set(d, 0x7fff));
  const VU sign = hn::ShiftLeft<16>(hn::And(x, hn::Set(d, 0x8000)));
  // As an f32 pattern the value is 2^112 too small; the multiplication normalises subnormals as well.
  const VU scaled =
      hn::BitCast(d, hn::Mul(hn::BitCast(df, hn::ShiftLeft<13>(abs)), hn::Set(df, 5.192296858534828e33f)));
  const VU special = hn::Or(hn::ShiftLeft<13>(abs), hn::Set(d, 0x7f800000));
  const VU nan = hn::Or(special, hn::Set(d, 0x00400000));
  VU y = select(hn::Gt(abs, hn::Set(d, 0x7bff)), special, scaled);
  y = select(hn::Gt(abs, hn::Set(d, 0x7c00)), nan, y);
  return hn::Or(y, sign);
}

template <class F>
HWY_INLINE void narrow(const float* x, std::size_t n, std::uint16_t* out, const F& f) {
  const U32 d;
  const U16 d16;
  const hn::RebindToFloat<U32> df;
  const hn::RebindToSigned<U32> di;
  const std::size_t lanes = hn::Lanes(d);
  const auto step = [&](const float* from, std::uint16_t* to) {
    const VU bits = f(hn::BitCast(d, hn::LoadU(df, from)));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, bits)), d16, to);
  };
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) step(x + i, out + i);
  if (i < n) {
    float from[hn::MaxLanes(d)] = {};
    std::uint16_t to[hn::MaxLanes(d)];
    std::memcpy(from, x + i, (n - i) * sizeof(float));
    step(from, to);
    std::memcpy(out + i, to, (n - i) * sizeof(std::uint16_t));
  }
}

template <class F>
HWY_INLINE void widen(const std::uint16_t* x, std::size_t n, float* out, const F& f) {
  const U32 d;
  const U16 d16;
  const hn::RebindToFloat<U32> df;
  const std::size_t lanes = hn::Lanes(d);
  const auto step = [&](const std::uint16_t* from, float* to) {
    hn::StoreU(hn::BitCast(df, f(hn::PromoteTo(d, hn::LoadU(d16, from)))), df, to);
  };
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) step(x + i, out + i);
  if (i < n) {
    std::uint16_t from[hn::MaxLanes(d)] = {};
    float to[hn::MaxLanes(d)];
    std::memcpy(from, x + i, (n - i) * sizeof(std::uint16_t));
    step(from, to);
    std::memcpy(out + i, to, (n - i) * sizeof(float));
  }
}

void F32ToF16(const float* x, std::size_t n, std::uint16_t* out) {
  narrow(x, n, out, [](VU v) { return to_f16(v); });
}
void F32ToBf16(const float* x, std::size_t n, std::uint16_t* out) {
  narrow(x, n, out, [](VU v) { return to_bf16(v); });
}
void F16ToF32(const std::uint16_t* x, std::size_t n, float* out) {
  widen(x, n, out, [](VU v) { return from_f16(v); });
}
void Bf16ToF32(const std::uint16_t* x, std::size_t n, float* out) {
  widen(x, n, out, [](VU v) { return from_bf16(v); });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(F32ToF16);
HWY_EXPORT(F32ToBf16);
HWY_EXPORT(F16ToF32);
HWY_EXPORT(Bf16ToF32);

void f32_to_f16(const float* x, std::size_t n, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(F32ToF16)(x, n, out);
}
void f32_to_bf16(const float* x, std::size_t n, std::uint16_t* out) {
  HWY_DYNAMIC_DISPATCH(F32ToBf16)(x, n, out);
}
void f16_to_f32(const std::uint16_t* x, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(F16ToF32)(x, n, out);
}
void bf16_to_f32(const std::uint16_t* x, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(Bf16ToF32)(x, n, out);
}

}  // namespace metal_candle::simd
#endif
