// Scalar conversions from and to the 16-bit floats, right everywhere. Rows are converted in convert.h.
#pragma once

#include <bit>
#include <cstdint>

namespace metal_candle::simd {

// Internal linkage: these are also compiled with wider instruction sets, and must not be shared by the
// linker.
static inline float bf16_to_float(std::uint16_t bits) noexcept {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

/// Exact; a signalling NaN becomes quiet, as F16C does.
static inline float f16_to_float(std::uint16_t bits) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1fu;
  const std::uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: mantissa · 2⁻²⁴
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, magnitude) | sign);
  }
  if (exponent == 31) {
    return __builtin_bit_cast(float, sign | 0x7f800000u | mantissa << 13 | (mantissa ? 0x400000u : 0u));
  }
  return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | mantissa << 13);
}

/// Rounds to nearest even; a NaN stays one.
static inline std::uint16_t float_to_bf16(float value) noexcept {
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace metal_candle::simd
