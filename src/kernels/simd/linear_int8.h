// Dense products of int8 (AVX-512 VNNI) for product_rows.cpp: rows and tiles with a scale every 64 inputs.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// 64 activations: value = scale · q.
struct Int8Run {
  std::int8_t q[64];
  float scale;
  std::int32_t start;  ///< what sums of products begin at: codes are 128 too large (linear_avx512_int8.cpp)
};

/// x[n] as n / 64 runs. A NaN or infinity makes the scale of its run NaN.
void int8_activations(const float* x, std::size_t n, Int8Run* out);

/// out[r * out_stride + 32 t + j] = sum over k of row r times row j of tile t; `tiles` (1 or 2) packed tiles
/// of int8_weight_format(k), one after another; rows are k / 64 runs, one after another. k: a multiple of 64.
/// Sums are exact within a run, then f32.
void int8_product(std::size_t k, const std::uint8_t* tile, std::size_t tiles, const Int8Run* acts,
                  std::size_t rows, float* out, std::size_t out_stride);

}  // namespace metal_candle::simd
