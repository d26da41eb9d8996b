// The two products of LoRA in float16 (AVX512-FP16), for the rows of long prompts: simd/lora.h has them in
// f32. Rows of activations are half rows (linear_half.h), matrices f16 or bf16, converted as there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

/// Whether this build has a target with them, and whether the active target is it.
#if defined(__x86_64__)
inline constexpr bool kHasLoraHalf = true;
#else
inline constexpr bool kHasLoraHalf = false;
#endif
bool lora_multiplies_half() noexcept;

/// `count` elements of f16 or bf16 as f16.
void lora_half_matrix(DType type, const std::byte* from, std::size_t count, std::uint16_t* out);

/// ActBlocks (linear_layout.h) of k values as a half row; a NaN scale makes values NaN.
void half_row_of_quantized(const std::byte* blocks, std::size_t k, std::byte* out);

/// lora_shrink() for half rows `x_stride` bytes apart. Up to 128 products are summed in float16, two lanes of
/// 64, and such sums in f32. Sums that leave float16's range are not finite.
void lora_shrink_half(DType type, const std::byte* a, std::size_t rank, std::size_t columns,
                      const std::byte* x, std::size_t x_stride, std::size_t rows, float* out,
                      std::size_t out_stride);

/// lora_expand() for half rows `t_stride` bytes apart and one tile [rank][32] of b: adds to 32 columns of y.
/// Sums are float16 over 128 ranks, then f32; one that leaves float16's range is done again in f32.
void lora_expand_half(DType type, const std::byte* b, std::size_t rank, const std::byte* t,
                      std::size_t t_stride, std::size_t rows, float* y, std::size_t y_stride);

}  // namespace metal_candle::simd
