// AVX2 + FMA + F16C operations of the linear kernels: 8 lanes. Included only by linear_avx2*.cpp.
#pragma once

#include <immintrin.h>

#include "kernels/simd/linear_kernel.h"

namespace metal_candle::simd {
namespace {

struct Avx2 {
  using F = __m256;
  using I = __m256i;
  using B = __m256i;
  static constexpr int kLanes = 8;
  static constexpr int kRows = 2, kDenseRows = 6, kPackedRows = 4;
  static constexpr bool kWideIsUnsigned = false;
  static constexpr bool kFusedMultiplyAdd = true;
  static constexpr bool kPairs = true;
  static constexpr int vectors(int rows) { return rows == 1 ? 4 : 2; }

  static MC_INLINE F zero_f() { return _mm256_setzero_ps(); }
  static MC_INLINE F set_f(float x) { return _mm256_set1_ps(x); }
  static MC_INLINE F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static MC_INLINE F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static MC_INLINE F negated(F a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f)); }
  static MC_INLINE F to_float(I a) { return _mm256_cvtepi32_ps(a); }
  static MC_INLINE F as_float(I a) { return _mm256_castsi256_ps(a); }
  static MC_INLINE F load_f32(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
  static MC_INLINE void store_f32(float* p, F a) { _mm256_storeu_ps(p, a); }
  static MC_INLINE F load_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
  }
  static MC_INLINE F load_bf16(const void* p) {
    const __m128i bits = _mm_loadu_si128(static_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static MC_INLINE F load_bf16_even(const Byte* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(load(p), 16));
  }
  static MC_INLINE F load_bf16_odd(const Byte* p) {
    return _mm256_castsi256_ps(_mm256_and_si256(load(p), _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static MC_INLINE __m128i load_8(const Byte* p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  }
  static MC_INLINE F load_u8(const Byte* p) { return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_8(p))); }
  static MC_INLINE F load_i8(const Byte* p) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_8(p))); }
  static MC_INLINE F load_low_nibbles(const Byte* p) {
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_cvtepu8_epi32(load_8(p)), _mm256_set1_epi32(15)));
  }
  static MC_INLINE F load_high_nibbles(const Byte* p) {
    return _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_cvtepu8_epi32(load_8(p)), 4));
  }

  static MC_INLINE I zero_i() { return _mm256_setzero_si256(); }
  static MC_INLINE I set_i(int x) { return _mm256_set1_epi32(x); }
  static MC_INLINE I add_pairs(I sum, I pairs) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  static MC_INLINE I pairs(B w, B x) { return _mm256_maddubs_epi16(w, x); }
  static MC_INLINE I add_i16(I a, I b) { return _mm256_add_epi16(a, b); }
  static MC_INLINE I dot(I sum, B w, B x) { return add_pairs(sum, pairs(w, x)); }
  static MC_INLINE I dot_wide(I sum, B w, B x) {  // |w| · (x with w's sign): at most 2 · 128 · 127
    const B s = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return add_pairs(sum, _mm256_maddubs_epi16(_mm256_abs_epi8(s), _mm256_sign_epi8(x, s)));
  }

  static MC_INLINE B load(const Byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static MC_INLINE void store(Byte* p, B a) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a); }
  static MC_INLINE int load_int(const void* p) {
    int v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static MC_INLINE B broadcast4(const std::int8_t* p) { return _mm256_set1_epi32(load_int(p)); }
  template <int shift, int mask>
  static MC_INLINE B field(B a) {
    if constexpr (shift > 0) a = _mm256_srli_epi16(a, shift);
    return _mm256_and_si256(a, _mm256_set1_epi8(mask));
  }
  template <int value>
  static MC_INLINE B add_to_all(B a) {
    return _mm256_add_epi8(a, _mm256_set1_epi8(static_cast<char>(value)));
  }
  template <int value>
  static MC_INLINE B add_bits(B a, const Byte* p) {
    const B spread = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const B bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
    const B set = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(load_int(p)), spread), bit);
    return _mm256_or_si256(a, _mm256_and_si256(_mm256_cmpeq_epi8(set, bit), _mm256_set1_epi8(value)));
  }
  static MC_INLINE B or_shifted4(B low, B high) { return _mm256_or_si256(low, _mm256_slli_epi16(high, 4)); }
};

}  // namespace
}  // namespace metal_candle::simd
