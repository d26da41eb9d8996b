#include "kernels/simd/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "kernels/simd/convert.h"
#include "kernels/simd/quant_formats.h"
#include "metal_candle/error.h"

namespace metal_candle::simd {
namespace {

constexpr std::size_t kBlock = 32;

std::uint16_t to_f16(float x) {
  std::uint16_t bits;
  f32_to_f16(&x, 1, &bits);
  return bits;
}

// ggml's codes fit the scale before it is rounded to f16.
float inverse(float scale) { return scale == 0 ? 0 : 1 / scale; }

// Scale: largest magnitude / 127; codes round halves away from zero.
void quantize_q8_0(const float* x, std::uint8_t* out) {
  float largest = 0;
  for (std::size_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::abs(x[i]));
  const float scale = largest / 127, factor = inverse(scale);
  const std::uint16_t bits = to_f16(scale);
  std::memcpy(out, &bits, 2);
  for (std::size_t i = 0; i < kBlock; ++i)
    out[2 + i] = static_cast<std::uint8_t>(static_cast<std::int8_t>(std::round(x[i] * factor)));
}

// 4 or 5 bits a code: scale (and min), the fifth bits, then nibbles: element i low, i + 16 high.
template <DType type>
void quantize_nibbles(const float* x, std::uint8_t* out) {
  using T = QuantTraits<type>;
  constexpr int kMost = (1 << T::kBits) - 1;
  float scale, shift, half;
  if constexpr (T::kHasMin) {
    const auto [low, high] = std::minmax_element(x, x + kBlock);
    scale = (*high - *low) / kMost;
    shift = *low;
    half = 0.5f;
  } else {  // the value of largest magnitude (the first of equals) takes the lowest code
    const float* largest =
        std::max_element(x, x + kBlock, [](float a, float b) { return std::abs(a) < std::abs(b); });
    scale = *largest / -T::kOffset;
    shift = 0;
    half = static_cast<float>(T::kOffset) + 0.5f;
  }
  const float factor = inverse(scale);
  const std::uint16_t bits = to_f16(scale);
  std::memcpy(out, &bits, 2);
  out += 2;
  if constexpr (T::kHasMin) {
    const std::uint16_t min = to_f16(shift);
    std::memcpy(out, &min, 2);
    out += 2;
  }
  const auto code = [&](std::size_t i) {
    return static_cast<std::uint32_t>(std::clamp(static_cast<int>((x[i] - shift) * factor + half), 0, kMost));
  };
  if constexpr (T::kBits == 5) {
    std::uint32_t fifth = 0;
    for (std::size_t i = 0; i < kBlock; ++i) fifth |= (code(i) >> 4) << i;
    std::memcpy(out, &fifth, 4);
    out += 4;
  }
  for (std::size_t i = 0; i < 16; ++i)
    out[i] = static_cast<std::uint8_t>((code(i) & 15) | (code(i + 16) & 15) << 4);
}

}  // namespace

bool can_quantize(DType type) noexcept {
  switch (type) {
    case DType::f32:
    case DType::f16:
    case DType::bf16:
    case DType::q8_0:
    case DType::q4_0:
    case DType::q4_1:
    case DType::q5_0:
    case DType::q5_1: return true;
    default: return false;
  }
}

void quantize(DType type, const float* src, std::byte* dst, std::size_t elements) {
  const auto blocks = [&](auto encode) {
    auto* out = reinterpret_cast<std::uint8_t*>(dst);
    for (std::size_t i = 0; i < elements; i += kBlock, out += block_bytes(type)) encode(src + i, out);
  };
  switch (type) {
    case DType::f32: std::memcpy(dst, src, elements * sizeof(float)); return;
    case DType::f16: return f32_to_f16(src, elements, reinterpret_cast<std::uint16_t*>(dst));
    case DType::bf16: return f32_to_bf16(src, elements, reinterpret_cast<std::uint16_t*>(dst));
    case DType::q8_0: return blocks(quantize_q8_0);
    case DType::q4_0: return blocks(quantize_nibbles<DType::q4_0>);
    case DType::q4_1: return blocks(quantize_nibbles<DType::q4_1>);
    case DType::q5_0: return blocks(quantize_nibbles<DType::q5_0>);
    case DType::q5_1: return blocks(quantize_nibbles<DType::q5_1>);
    default:
      throw Error(ErrorCode::unsupported,
                  "elements of type " + std::string(metal_candle::name(type)) + " cannot be written");
  }
}

}  // namespace metal_candle::simd
