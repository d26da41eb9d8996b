// Stored elements to float: the definition of every format, element by element. Not the fast path of a
// product.
#pragma once

#include <cstddef>

#include "core/dtype.h"

namespace metal_candle::simd {

/// True for f32, f16, bf16, f64 and the GGUF block formats.
bool can_dequantize(DType type) noexcept;

/// dst[0..elements) from src; elements is a multiple of block_elements(type). Bit-identical to ggml's
/// definition as Python's gguf.quants.dequantize computes it (float32, products then sums, not fused); f64
/// rounds to nearest. Needs no alignment. Throws Error(unsupported) for types without a float meaning.
void dequantize(DType type, const std::byte* src, float* dst, std::size_t elements);

}  // namespace metal_candle::simd
