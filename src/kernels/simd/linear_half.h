// Dense products of float16 (AVX512-FP16) for product_rows.cpp: rows of scaled blocks times f16 tiles.
// Weights of at most kLargestHalfWeight keep a float16 sum of 32 products finite.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// 32 activations divided by down, a power of two: all below 1.
struct HalfBlock {
  float down;
  float x[32];  ///< no floats: words that hold one float16 twice each, which broadcasts fill vectors with
};

constexpr std::size_t half_blocks(std::size_t k) { return (k + 31) / 32; }

/// x[k] as half_blocks(k) blocks, the last filled with zeros.
void half_activations(const float* x, std::size_t k, HalfBlock* out);

/// out[r * out_stride + j] = sum over k of row r times row j of a packed f16 tile (linear_layout.h); rows are
/// half_blocks(k) blocks, one after another. 32 products are summed in float16, such sums in f32.
void half_product(std::size_t k, const std::uint8_t* tile, const HalfBlock* acts, std::size_t rows,
                  float* out, std::size_t out_stride);

}  // namespace metal_candle::simd
