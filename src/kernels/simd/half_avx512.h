// Operands of float16 products, scaled by powers of two. Included only by the AVX512-FP16 kernels.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/simd/inline.h"

namespace metal_candle::simd {
namespace {

MC_INLINE __m512i magnitude(__m512 x) {
  return _mm512_and_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

struct Scale {
  float up, down;  // powers of two, each the other's inverse
};

// For values of which `largest` holds the bits of the greatest magnitude: afterwards below 2^top.
MC_INLINE Scale scale_to(std::uint32_t largest, int top) {
  std::uint32_t exponent = largest >> 23;
  if (exponent == 255) return {1, 1};  // infinity and NaN go through
  if (exponent < 8) exponent = 8;
  const std::uint32_t up = static_cast<std::uint32_t>(253 + top) - exponent, down = 254 - up;
  Scale out;
  const std::uint32_t bits[2] = {up << 23, down << 23};
  __builtin_memcpy(&out, bits, sizeof out);
  return out;
}

// The float16 in both halves of a word each: one 32-bit broadcast then fills a vector, for which a 16-bit one
// needs a second instruction.
MC_INLINE __m512i twice(__m512 x) {
  const __m512i one = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  return _mm512_or_epi32(one, _mm512_slli_epi32(one, 16));
}

}  // namespace
}  // namespace metal_candle::simd
