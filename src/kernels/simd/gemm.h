// One register tile of a dense f32 product, and the packing of what it reads: the innermost loop of training.
// One thread, raw pointers; blocking and threads are kernels/gemm. Inference multiplies packed weights
// instead (linear.h).
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// Rows of A and columns of B that one register tile of the active target holds.
struct GemmTile {
  std::size_t rows, columns;
};
GemmTile gemm_tile() noexcept;

inline constexpr std::size_t kMaxGemmColumns = 64;  ///< of any target

/// A[row, k] lies at data[row * row_stride + k * k_stride].
struct GemmRows {
  const float* data;
  std::size_t row_stride, k_stride;
};

/// c[i * c_stride + j] (+)= sum over k of a[i, k] * b[k * tile.columns + j], for i < rows, at most tile.rows,
/// and j < columns, at most tile.columns. The sum over k runs in order, so its bits depend on nothing else.
void gemm_tile_product(const GemmRows& a, std::size_t rows, const float* b, std::size_t k, float* c,
                       std::size_t c_stride, std::size_t columns, bool accumulate);

/// out[k * width + j] = rows[j][k] for j < count, zero for count <= j < width; width is
/// at most kMaxGemmColumns.
void gemm_pack_transposed(const float* const* rows, std::size_t count, std::size_t k, std::size_t width,
                          float* out);

/// out[i] = x[i] rounded to bfloat16, to nearest even, as f32. `out` may be `x`.
void round_to_bf16(const float* x, std::size_t n, float* out);

}  // namespace metal_candle::simd
