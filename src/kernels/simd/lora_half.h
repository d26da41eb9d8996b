// The two products of LoRA on operands of 16 bits, for the rows of long prompts: simd/lora.h has them in f32.
// Rows of activations are half rows (linear_half.h), matrices f16 or bf16, converted to the rows' type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

struct LoraHalf {
  /// What is multiplied: f16 (sums of up to 128 products, then of those in f32) or bf16 (sums in f32).
  DType type;

  /// `count` elements of f16 or bf16 as `type`.
  void (*matrix)(DType from_type, const std::byte* from, std::size_t count, std::uint16_t* out);

  /// x as a half row; `out` may begin a float before x.
  void (*row)(const float* x, std::size_t k, std::byte* out);
  /// ActBlocks (linear_layout.h) of k values as a half row; a NaN scale makes values NaN.
  void (*row_of_quantized)(const std::byte* blocks, std::size_t k, std::byte* out);

  /// lora_shrink() for half rows `x_stride` bytes apart. Sums that leave float16's range are not finite.
  void (*shrink)(DType a_type, const std::byte* a, std::size_t rank, std::size_t columns, const std::byte* x,
                 std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride);

  /// lora_expand() for half rows `t_stride` bytes apart and one tile [rank][32] of b: adds to 32 columns of
  /// y. One that leaves float16's range is done again in f32.
  void (*expand)(DType b_type, const std::byte* b, std::size_t rank, const std::byte* t, std::size_t t_stride,
                 std::size_t rows, float* y, std::size_t y_stride);
};

/// The active target's, or null.
const LoraHalf* lora_half() noexcept;

extern const LoraHalf kLoraAvx512Bf16;  // x86-64 only, as the next
extern const LoraHalf kLoraAvx512Fp16;

}  // namespace metal_candle::simd
