// f32 <-> f16 and bf16 rows, as raw 16-bit words. Rounds to nearest, ties to even; NaN stays NaN (quiet),
// overflow becomes infinity, f16 subnormals are exact. The same bits on every SIMD target.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

void f32_to_f16(const float* x, std::size_t n, std::uint16_t* out);
void f32_to_bf16(const float* x, std::size_t n, std::uint16_t* out);
void f16_to_f32(const std::uint16_t* x, std::size_t n, float* out);
void bf16_to_f32(const std::uint16_t* x, std::size_t n, float* out);

}  // namespace metal_candle::simd
