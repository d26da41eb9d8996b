// Dense products of float16 (AVX512-FP16) for product_rows.cpp: rows of f16 times f16 tiles.
// Rows hold activations divided by kHalfDown, so that sums of 128 products are finite with weights of at most
// kLargestHalfWeight while activations stay below 8 on average, with common weights (1) below 8,000.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// A power of two: only values below 2^-10 lose bits by it.
inline constexpr float kHalfDown = 16;

/// out[i] = x[i] / kHalfDown, rounded to float16.
void half_activations(const float* x, std::size_t n, std::uint16_t* out);

/// out[r * out_stride + 32 t + j] = sum over k of row r times row j of tile t; `tiles` (1 or 2) packed f16
/// tiles (linear_layout.h), one after another; rows of k values, one after another. 128 products are summed
/// in float16, such sums in f32.
void half_product(std::size_t k, const std::uint8_t* tile, std::size_t tiles, const std::uint16_t* acts,
                  std::size_t rows, float* out, std::size_t out_stride);

}  // namespace metal_candle::simd
