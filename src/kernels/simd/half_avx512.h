// What the kernels of float16 share. Included only by files compiled for AVX512-FP16.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/simd/inline.h"

namespace metal_candle::simd {
namespace {

// sum + w · x, x in every lane. GCC has no intrinsic that takes a float16 from memory into all lanes within
// the instruction; a broadcast of its own would take a port from the multiplications.
MC_INLINE __m512h multiply_add(const std::uint16_t* x, __m512h w, __m512h sum) {
  __asm__("vfmadd231ph %2%{1to32%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*x));
  return sum;
}

MC_INLINE __m512 low_half(__m512h x) {
  return _mm512_cvtph_ps(_mm512_castsi512_si256(_mm512_castph_si512(x)));
}
MC_INLINE __m512 high_half(__m512h x) {
  return _mm512_cvtph_ps(_mm512_extracti64x4_epi64(_mm512_castph_si512(x), 1));
}

/// 32 floats, rounded to nearest even.
MC_INLINE __m512h to_half(__m512 low, __m512 high) {
  const __m512i lower = _mm512_castsi256_si512(_mm512_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT));
  return _mm512_castsi512_ph(_mm512_inserti64x4(lower, _mm512_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT), 1));
}

MC_INLINE __mmask16 first_lanes(std::size_t n) {
  return static_cast<__mmask16>(n < 16 ? (1u << n) - 1 : 0xffffu);
}

/// A scaled operand's largest value is below 2^kTop.
constexpr int kTop = 4;

MC_INLINE __m512i magnitude(__m512 x) {
  return _mm512_and_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

struct Scale {
  float up, down;  // powers of two, each the other's inverse
};

/// For values of which `largest` holds the bits of the greatest magnitude: afterwards below 2^kTop.
MC_INLINE Scale scale_for(std::uint32_t largest) {
  std::uint32_t exponent = largest >> 23;
  if (exponent == 255) return {1, 1};  // infinity and NaN go through
  if (exponent < 8) exponent = 8;
  const std::uint32_t up = static_cast<std::uint32_t>(253 + kTop) - exponent, down = 254 - up;
  Scale out;
  const std::uint32_t bits[2] = {up << 23, down << 23};
  __builtin_memcpy(&out, bits, sizeof out);
  return out;
}

constexpr int kNanOrInfinite = 0x01 | 0x08 | 0x10 | 0x80;  // classes of vfpclass

/// Neither NaN nor infinity.
MC_INLINE bool finite(__m512h x) { return _mm512_fpclass_ph_mask(x, kNanOrInfinite) == 0; }
MC_INLINE bool finite(__m512 low, __m512 high) {
  return (_mm512_fpclass_ps_mask(low, kNanOrInfinite) | _mm512_fpclass_ps_mask(high, kNanOrInfinite)) == 0;
}

/// out[i] = factor * x[i], rounded to nearest even.
MC_INLINE void scale_to_half(const float* x, std::size_t n, float factor, std::uint16_t* out) {
  for (std::size_t i = 0; i < n; i += 16) {
    const __mmask16 lanes = first_lanes(n - i);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), _mm512_set1_ps(factor));
    _mm256_mask_storeu_epi16(out + i, lanes, _mm512_cvtps_ph(scaled, _MM_FROUND_TO_NEAREST_INT));
  }
}

}  // namespace
}  // namespace metal_candle::simd
