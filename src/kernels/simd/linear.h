// y = x·Wᵀ on the CPU for every weight format: packing, activation rows and the tile kernel.
// Single-threaded pieces over raw pointers; the caller threads over tiles. No MLX, no validation of shapes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/simd/weight_format.h"

namespace metal_candle::simd {

/// Outputs (rows of W) in a tile. W[n,k] packs into ceil(n / kTileRows) tiles of equal size, one after
/// another, so weights of one format and k may be concatenated, or their tiles interleaved.
inline constexpr std::size_t kTileRows = 32;

/// True for the formats the functions below take: f32, f16, bf16, the GGUF block formats and MLX's affine
/// ones.
bool linear_supports(const WeightFormat& weight) noexcept;

/// k must be a multiple of this: the format's block or group; 1 for dense weights.
std::size_t linear_k_unit(const WeightFormat& weight) noexcept;

/// Bytes of one tile of weights with `k` inputs.
std::size_t packed_tile_bytes(const WeightFormat& weight, std::size_t k);

/// Packs kTileRows rows, each k inputs in the file's own layout; nullptr is a row of zeros. Not for affine
/// formats. The layout (docs/kernels.md) is the same on every target; no alignment is needed anywhere.
void pack_tile(const WeightFormat& weight, std::size_t k, const std::byte* const* rows, std::byte* tile);

/// One row of an affine weight: k · bits / 8 bytes of codes, and k / group scales and biases. No codes:
/// zeros.
struct AffineRow {
  const std::byte* codes = nullptr;
  const std::byte* scales = nullptr;
  const std::byte* biases = nullptr;
};
void pack_affine_tile(const WeightFormat& weight, std::size_t k, const AffineRow* rows, std::byte* tile);

/// Reads one row back: bit for bit what dequantize() gives for it; affine: scale · code + bias in float.
void unpack_row(const WeightFormat& weight, std::size_t k, const std::byte* tile, std::size_t row_in_tile,
                float* out);

/// Bytes of one prepared row of k inputs. It and its contents depend on the active target and on whether
/// `weight` is quantized, not on which quantized format it is: rows for two such weights are interchangeable.
std::size_t activation_row_bytes(const WeightFormat& weight, std::size_t k);
bool same_activations(const WeightFormat& a, const WeightFormat& b) noexcept;

/// Prepares x[k] for linear_tile. Quantized weights: blocks of 32 as int8 = round(x / scale), scale = max|x|
/// / 127, with their sums. Dense weights: f32, and bf16 or f16 where the target multiplies it. With quantized
/// weights a NaN or infinity makes every output of its row NaN.
void prepare_activations(const WeightFormat& weight, const float* x, std::size_t k, std::byte* out_row);

/// How dense weights are multiplied. half: with operands of 16 bits where the target has such products, 2 to
/// 4 times faster: avx512_bf16 rounds both operands to bf16 and sums in f32; avx512_fp16 multiplies f16
/// weights by rows of f16 with a power of two each, and adds 128 products in f16, such sums in f32 (a row
/// that leaves f16's range is done again in f32). Elsewhere, and for other weights, f32.
enum class DenseProducts { f32, half };

/// What sums begin with: bias[j], and what `out` holds if `add`. Only for dense weights in f32 products.
struct SumStart {
  const float* bias = nullptr;  ///< null: zeros
  bool add = false;
};

/// out[r * out_stride + j] = Σ_k x[r,k]·W[j,k] for r < rows, j < kTileRows. `acts` holds the prepared rows,
/// `acts_stride` bytes apart; out_stride counts floats.
/// Quantized weights: exact integer products per block, float sums. Sums run in one fixed order, so a row's
/// result does not depend on `rows`, in either kind of product.
void linear_tile(const WeightFormat& weight, std::size_t k, const std::byte* tile, const std::byte* acts,
                 std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride,
                 DenseProducts products = DenseProducts::f32, const SumStart& start = {});

}  // namespace metal_candle::simd
