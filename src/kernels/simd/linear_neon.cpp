// NEON with dot products (armv8.2-a+dotprod): 4 lanes; 8-bit codes are made signed before they are
// multiplied.
#include <arm_neon.h>

#include "kernels/simd/linear_kernel.h"

namespace metal_candle::simd {
namespace {

struct Neon {
  using F = float32x4_t;
  using I = int32x4_t;
  using B = uint8x16_t;
  static constexpr int kLanes = 4;
  static constexpr int kRows = 4, kDenseRows = 6, kPackedRows = 8;
  static constexpr bool kWideIsUnsigned = false;
  static constexpr bool kFusedMultiplyAdd = true;
  static constexpr bool kPairs = false;
  static constexpr int vectors(int rows) { return rows == 1 ? 4 : 2; }

  static MC_INLINE F zero_f() { return vdupq_n_f32(0.0f); }
  static MC_INLINE F set_f(float x) { return vdupq_n_f32(x); }
  static MC_INLINE F mul(F a, F b) { return vmulq_f32(a, b); }
  static MC_INLINE F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static MC_INLINE F negated(F a) { return vnegq_f32(a); }
  static MC_INLINE F to_float(I a) { return vcvtq_f32_s32(a); }
  static MC_INLINE F as_float(I a) { return vreinterpretq_f32_s32(a); }
  static MC_INLINE F load_f32(const void* p) {
    return vreinterpretq_f32_u8(load(static_cast<const Byte*>(p)));
  }
  static MC_INLINE void store_f32(float* p, F a) {
    store(reinterpret_cast<Byte*>(p), vreinterpretq_u8_f32(a));
  }
  static MC_INLINE uint8x8_t load_8(const void* p) { return vld1_u8(static_cast<const Byte*>(p)); }
  static MC_INLINE F load_f16(const void* p) { return vcvt_f32_f16(vreinterpret_f16_u8(load_8(p))); }
  static MC_INLINE F load_bf16(const void* p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(load_8(p)), 16));
  }
  static MC_INLINE F load_bf16_even(const Byte* p) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(load(p)), 16));
  }
  static MC_INLINE F load_bf16_odd(const Byte* p) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(load(p)), vdupq_n_u32(0xffff0000u)));
  }
  static MC_INLINE uint32x4_t load_4(const Byte* p) {
    std::uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(v))));
  }
  static MC_INLINE F load_u8(const Byte* p) { return vcvtq_f32_u32(load_4(p)); }
  static MC_INLINE F load_i8(const Byte* p) {
    return vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(vshlq_n_u32(load_4(p), 24)), 24));
  }
  static MC_INLINE F load_low_nibbles(const Byte* p) {
    return vcvtq_f32_u32(vandq_u32(load_4(p), vdupq_n_u32(15)));
  }
  static MC_INLINE F load_high_nibbles(const Byte* p) { return vcvtq_f32_u32(vshrq_n_u32(load_4(p), 4)); }

  static MC_INLINE I zero_i() { return vdupq_n_s32(0); }
  static MC_INLINE I set_i(int x) { return vdupq_n_s32(x); }
  static MC_INLINE I dot(I sum, B w, B x) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(w), vreinterpretq_s8_u8(x));
  }
  static MC_INLINE I dot_wide(I sum, B w, B x) { return dot(sum, veorq_u8(w, vdupq_n_u8(0x80)), x); }

  static MC_INLINE B load(const Byte* p) { return vld1q_u8(p); }
  static MC_INLINE void store(Byte* p, B a) { vst1q_u8(p, a); }
  static MC_INLINE B broadcast4(const void* p) {
    std::uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return vreinterpretq_u8_u32(vdupq_n_u32(v));
  }
  template <int shift, int mask>
  static MC_INLINE B field(B a) {
    if constexpr (shift > 0) a = vshrq_n_u8(a, shift);
    return vandq_u8(a, vdupq_n_u8(mask));
  }
  template <int value>
  static MC_INLINE B add_bits(B a, const Byte* p) {
    const B bytes = vcombine_u8(vdup_n_u8(p[0]), vdup_n_u8(p[1]));
    const B bit = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201u));
    return vorrq_u8(a, vandq_u8(vtstq_u8(bytes, bit), vdupq_n_u8(value)));
  }
  static MC_INLINE B or_shifted4(B low, B high) { return vorrq_u8(low, vshlq_n_u8(high, 4)); }
};

}  // namespace

const LinearTable kLinearNeon = kTableOf<Neon>;

}  // namespace metal_candle::simd
