// Floats to stored elements: the inverse of dequantize.h, for tools that write models. Not the packed layout
// of a product, nor what activations become (quantize_row.h).
#pragma once

#include <cstddef>

#include "core/dtype.h"

namespace metal_candle::simd {

/// True for f32, f16, bf16, q8_0, q4_0, q4_1, q5_0 and q5_1.
bool can_quantize(DType type) noexcept;

/// src[0..elements) to dst; elements is a multiple of block_elements(type). Bit-identical to ggml's reference
/// as Python's gguf.quants.quantize computes it. Needs no alignment. Throws Error(unsupported) for other
/// types.
void quantize(DType type, const float* src, std::byte* dst, std::size_t elements);

}  // namespace metal_candle::simd
