// Dense products of float16 (AVX512-FP16) for linear.cpp and product_rows.cpp: rows of f16 times f16 tiles.
// A sum of 128 products must stay below 65,504, so rows hold activations scaled down.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

/// A power of two that sums count in: with it they are finite for weights of at most kLargestHalfWeight
/// (product_rows.h) while activations stay below 8 on average, with common weights (1) below 8,000. Only
/// values below 2^-10 lose bits by it.
inline constexpr float kHalfDown = 16;

/// out[i] = x[i] / kHalfDown, rounded to float16.
void half_activations(const float* x, std::size_t n, std::uint16_t* out);

/// A half row: a float, then n values of 16 bits, padded to pairs. x is the product of a value and the float.
/// bf16: that is 1 (linear_bf16.h). f16: a power of two that brings the largest value into [8, 16), so that
/// sums of 128 products with weights below 32 are finite; 1 where x holds NaN or infinity; what lies below
/// 2^-119 is scaled as that would be.
constexpr std::size_t half_row_bytes(std::size_t n) {
  return sizeof(float) + (n + 1) / 2 * 2 * sizeof(std::uint16_t);
}
/// Vectors that straddle cache lines take twice as long to load. Of rows so many bytes apart, the first
/// kHalfRowLead bytes into aligned memory, the values begin a line.
constexpr std::size_t whole_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
constexpr std::size_t half_row_stride(std::size_t n) { return whole_lines(half_row_bytes(n)); }
inline constexpr std::size_t kHalfRowLead = 64 - sizeof(float);
/// Where it lies in a row that linear.h prepared for dense weights: after the floats, its values at a line.
constexpr std::size_t half_row_offset(std::size_t n) { return whole_lines(n * sizeof(float)) + kHalfRowLead; }
/// `out` may begin a float before x.
void half_row(const float* x, std::size_t n, std::byte* out);

/// out[r * out_stride + 32 t + j] = sum over k of row r times row j of tile t; `tiles` packed tiles of `type`
/// (linear_layout.h), one after another: 1 or 2 of f16, or 1 of bf16, which is converted; rows of k values,
/// acts_stride values apart. 128 products are summed in float16, such sums in f32.
void half_product(DType type, std::size_t k, const std::uint8_t* tile, std::size_t tiles,
                  const std::uint16_t* acts, std::size_t acts_stride, std::size_t rows, float* out,
                  std::size_t out_stride);

/// Multiplies a tile's 32 results of a row; false if one is not finite.
bool half_rescale(float* out, float factor);

}  // namespace metal_candle::simd
