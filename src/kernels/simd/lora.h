// The two small products of LoRA on raw memory: x·Aᵀ down to the rank, and from there out along B. One
// thread; the caller cuts the work. What a, b and scale mean together is kernels/lora.h.
#pragma once

#include <cstddef>

#include "core/dtype.h"

namespace metal_candle::simd {

/// The element types of A and B that are multiplied as they are: f32, f16, bf16.
bool lora_supports(DType type) noexcept;

/// out[i * out_stride + j] = Σ_k x[i * x_stride + k] · a[j * columns + k] for i < rows, j < rank; a is
/// [rank, columns]. Sums are f32 in one fixed order: a row's result does not depend on `rows` or `rank`.
void lora_shrink(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const float* x,
                 std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride);

/// y[i * y_stride + c] += Σ_j t[i * t_stride + j] · b[j * b_stride + c] for i < rows, c < columns; j < rank
/// in order, summed in f32 before it is added. b_stride counts elements.
void lora_expand(DType type, const std::byte* b, std::size_t b_stride, std::size_t rank, const float* t,
                 std::size_t t_stride, std::size_t rows, std::size_t columns, float* y, std::size_t y_stride);

}  // namespace metal_candle::simd
