// AVX-512 (F, BW, DQ, VL) operations of the linear kernels: 16 lanes. Included only by linear_avx512*.cpp.
#pragma once

#include <immintrin.h>

#include "kernels/simd/linear_kernel.h"

namespace metal_candle::simd {
namespace {

struct Avx512 {
  using F = __m512;
  using I = __m512i;
  using B = __m512i;
  static constexpr int kLanes = 16;
  static constexpr int kRows = 6, kDenseRows = 12, kPackedRows = 12;
  static constexpr bool kWideIsUnsigned = false;
  static constexpr bool kFusedMultiplyAdd = true;
  static constexpr bool kPairs = true;
  static constexpr int vectors(int) { return 2; }

  static MC_INLINE F zero_f() { return _mm512_setzero_ps(); }
  static MC_INLINE F set_f(float x) { return _mm512_set1_ps(x); }
  static MC_INLINE F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static MC_INLINE F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static MC_INLINE F negated(F a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static MC_INLINE F to_float(I a) { return _mm512_cvtepi32_ps(a); }
  static MC_INLINE F as_float(I a) { return _mm512_castsi512_ps(a); }
  static MC_INLINE F load_f32(const void* p) { return _mm512_loadu_ps(p); }
  static MC_INLINE void store_f32(float* p, F a) { _mm512_storeu_ps(p, a); }
  static MC_INLINE F load_f16(const void* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
  }
  static MC_INLINE F load_bf16(const void* p) {
    const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static MC_INLINE F load_bf16_even(const Byte* p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(load(p), 16));
  }
  static MC_INLINE F load_bf16_odd(const Byte* p) {
    return _mm512_castsi512_ps(_mm512_and_si512(load(p), _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static MC_INLINE __m128i load_16(const Byte* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static MC_INLINE F load_u8(const Byte* p) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_16(p))); }
  static MC_INLINE F load_i8(const Byte* p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load_16(p))); }
  static MC_INLINE F load_low_nibbles(const Byte* p) {
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_cvtepu8_epi32(load_16(p)), _mm512_set1_epi32(15)));
  }
  static MC_INLINE F load_high_nibbles(const Byte* p) {
    return _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(load_16(p)), 4));
  }

  static MC_INLINE I zero_i() { return _mm512_setzero_si512(); }
  static MC_INLINE I set_i(int x) { return _mm512_set1_epi32(x); }
  static MC_INLINE I add_pairs(I sum, I pairs) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
  }
  static MC_INLINE I pairs(B w, B x) { return _mm512_maddubs_epi16(w, x); }
  static MC_INLINE I add_i16(I a, I b) { return _mm512_add_epi16(a, b); }
  static MC_INLINE I dot(I sum, B w, B x) { return add_pairs(sum, pairs(w, x)); }
  static MC_INLINE I dot_wide(I sum, B w, B x) {  // |w| · (x with w's sign): at most 2 · 128 · 127
    const B s = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
    const B signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(s), zero_i(), x);
    return add_pairs(sum, _mm512_maddubs_epi16(_mm512_abs_epi8(s), signed_x));
  }

  static MC_INLINE B load(const Byte* p) { return _mm512_loadu_si512(p); }
  static MC_INLINE void store(Byte* p, B a) { _mm512_storeu_si512(p, a); }
  static MC_INLINE B broadcast4(const void* p) {
    int v;
    __builtin_memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
  }
  template <int shift, int mask>
  static MC_INLINE B field(B a) {
    if constexpr (shift > 0) a = _mm512_srli_epi16(a, shift);
    return _mm512_and_si512(a, _mm512_set1_epi8(mask));
  }
  template <int value>
  static MC_INLINE B add_to_all(B a) {
    return _mm512_add_epi8(a, _mm512_set1_epi8(static_cast<char>(value)));
  }
  template <int value>
  static MC_INLINE B add_bits(B a, const Byte* p) {
    std::uint64_t mask;
    __builtin_memcpy(&mask, p, sizeof mask);
    return _mm512_mask_add_epi8(a, mask, a, _mm512_set1_epi8(value));
  }
  static MC_INLINE B or_shifted4(B low, B high) { return _mm512_or_si512(low, _mm512_slli_epi16(high, 4)); }
};

}  // namespace
}  // namespace metal_candle::simd
