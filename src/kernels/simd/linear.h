// y = x·Wᵀ on the CPU for every weight format: packing, activation rows and the tile kernel.
// Single-threaded pieces over raw pointers; the caller threads over tiles. No MLX, no validation of shapes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

/// Outputs (rows of W) in a tile. W[n,k] packs into ceil(n / kTileRows) tiles of equal size, one after
/// another, so weights of one format and k may be concatenated, or their tiles interleaved.
inline constexpr std::size_t kTileRows = 32;

/// True for the formats the functions below take: f32, f16, bf16 and the GGUF block formats.
bool linear_supports(DType weight) noexcept;

/// Bytes of one tile of weights with `k` inputs; k is a multiple of block_elements(weight).
std::size_t packed_tile_bytes(DType weight, std::size_t k);

/// Packs kTileRows rows, each k inputs in the file's own layout; nullptr is a row of zeros.
/// The layout (docs/kernels.md) is the same on every target; no alignment is needed anywhere.
void pack_tile(DType weight, std::size_t k, const std::byte* const* rows, std::byte* tile);

/// Reads one row back: bit for bit what dequantize() gives for it.
void unpack_row(DType weight, std::size_t k, const std::byte* tile, std::size_t row_in_tile, float* out);

/// Bytes of one prepared row of k inputs. It and its contents depend on the active target and on whether
/// `weight` is quantized, not on which quantized format it is: same_activations() rows are interchangeable.
std::size_t activation_row_bytes(DType weight, std::size_t k);
bool same_activations(DType a, DType b) noexcept;

/// Prepares x[k] for linear_tile. Quantized weights: blocks of 32 as int8 = round(x / scale), scale = max|x|
/// / 127, with their sums. Dense weights: f32 (and bf16 where the target multiplies it). A NaN or infinity in
/// a block makes every output of its row NaN.
void prepare_activations(DType weight, const float* x, std::size_t k, std::byte* out_row);

/// out[r * out_stride + j] = Σ_k x[r,k]·W[j,k] for r < rows, j < kTileRows. `acts` holds the prepared rows,
/// `acts_stride` bytes apart; out_stride counts floats.
/// Quantized weights: exact integer products per block, float sums in one fixed order, so a row's result does
/// not depend on `rows`. Dense weights: f32 products for up to kDenseExactRows rows and on targets without
/// bf16 products; above, operands rounded to bf16, sums in f32.
inline constexpr std::size_t kDenseExactRows = 64;
void linear_tile(DType weight, std::size_t k, const std::byte* tile, const std::byte* acts,
                 std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride);

}  // namespace metal_candle::simd
