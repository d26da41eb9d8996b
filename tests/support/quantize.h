// Test-side row encoders for the formats tests need: plain, obvious, and independent of src/kernels.
// Layouts: ggml's block_q4_0, block_q4_1, block_q8_0. Not the product's quantizers.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <vector>

#include "core/dtype.h"

namespace metal_candle::test {

/// IEEE binary16, rounded to nearest even; subnormals and infinity included. NaN becomes a quiet NaN.
inline std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
  if (std::isnan(value)) return sign | 0x7e00;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.0f) return sign | 0x7c00;
  // Below 2^-14 all halves are multiples of 2^-24; above, of 2^(exponent - 10).
  const int exponent = std::max(magnitude > 0 ? std::ilogb(magnitude) : -14, -14);
  const auto steps = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  // A carry out of the mantissa runs into the exponent, as it should.
  return static_cast<std::uint16_t>(sign | ((static_cast<std::uint32_t>(exponent + 14) << 10) + steps));
}

inline float from_f16(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  float value = exponent == 31  ? (mantissa ? NAN : INFINITY)
                : exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                                : std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return half & 0x8000 ? -value : value;
}

/// bfloat16, rounded to nearest even.
inline std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

namespace detail {

template <typename T>
void append(std::vector<std::byte>& out, T value) {
  const auto* p = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), p, p + sizeof(T));
}

/// 32 values in 0..15, value i in the low half of byte i, value i + 16 in the high half.
inline void append_nibbles(std::vector<std::byte>& out, std::span<const float, 32> x, float shift,
                           float inverse) {
  const auto level = [&](float v) {
    return static_cast<unsigned>(std::clamp(std::nearbyint((v - shift) * inverse), 0.0f, 15.0f));
  };
  for (std::size_t i = 0; i < 16; ++i)
    out.push_back(static_cast<std::byte>(level(x[i]) | level(x[i + 16]) << 4));
}

inline void append_block(std::vector<std::byte>& out, DType type, std::span<const float, 32> x) {
  const auto [low, high] = std::minmax_element(x.begin(), x.end());
  const float largest = std::max(std::fabs(*low), std::fabs(*high));
  if (type == DType::q8_0) {
    const std::uint16_t scale = to_f16(largest / 127.0f);
    const float inverse = from_f16(scale) > 0 ? 1.0f / from_f16(scale) : 0.0f;
    append(out, scale);
    for (const float v : x)
      append(out, static_cast<std::int8_t>(std::clamp(std::nearbyint(v * inverse), -127.0f, 127.0f)));
  } else if (type == DType::q4_0) {  // value = (q - 8) * scale; the value of largest magnitude becomes -8
    const std::uint16_t scale = to_f16((std::fabs(*low) >= std::fabs(*high) ? *low : *high) / -8.0f);
    const float step = from_f16(scale);
    append(out, scale);
    append_nibbles(out, x, -8.0f * step, step != 0 ? 1.0f / step : 0.0f);
  } else {  // q4_1: value = q * scale + minimum
    const std::uint16_t scale = to_f16((*high - *low) / 15.0f);
    const std::uint16_t minimum = to_f16(*low);
    append(out, scale);
    append(out, minimum);
    const float step = from_f16(scale);
    append_nibbles(out, x, from_f16(minimum), step > 0 ? 1.0f / step : 0.0f);
  }
}

}  // namespace detail

/// `values` as stored bytes of f32, f16, bf16, q4_0, q4_1 or q8_0. For the quantized types the count is a
/// multiple of 32; rows of whole blocks need no row length.
inline std::vector<std::byte> encode(DType type, std::span<const float> values) {
  std::vector<std::byte> out;
  switch (type) {
    case DType::f32:
      for (const float v : values) detail::append(out, v);
      return out;
    case DType::f16:
      for (const float v : values) detail::append(out, to_f16(v));
      return out;
    case DType::bf16:
      for (const float v : values) detail::append(out, to_bf16(v));
      return out;
    case DType::q4_0:
    case DType::q4_1:
    case DType::q8_0:
      if (values.size() % 32 != 0) throw std::invalid_argument("encode: not whole blocks");
      for (std::size_t i = 0; i < values.size(); i += 32) {
        detail::append_block(out, type, values.subspan(i).first<32>());
      }
      return out;
    default: throw std::invalid_argument("encode: no test encoder for this type");
  }
}

}  // namespace metal_candle::test
