// Activations as the integer products take them: blocks of 32 int8 with their scale and sums (ActBlock).
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// x[k] (k a multiple of 32) to k / 32 ActBlocks: q = round(x / scale), to nearest even, scale = max|x| /
/// 127. The same bits on every target. A block with a NaN or infinity gets scale NaN; one below 2⁻¹⁰⁰ counts
/// as zeros.
void quantize_row(const float* x, std::size_t k, std::byte* row);

/// Blocks of 32 values, one after another in x, to ActBlocks `stride` bytes apart: a column of rows.
void quantize_column(const float* x, std::size_t blocks, std::byte* out, std::size_t stride);

/// out[k] = x − the values that `row` holds: what quantize_row() rounded away.
void quantization_residual(const float* x, std::size_t k, const std::byte* row, float* out);

}  // namespace metal_candle::simd
