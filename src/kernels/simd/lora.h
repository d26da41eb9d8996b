// The two small products of LoRA on raw memory: x·Aᵀ down to the rank, and from there out along B. One
// thread; the caller cuts the work. What a, b and scale mean together is kernels/lora.h.
#pragma once

#include <cstddef>

#include "core/dtype.h"
#include "kernels/simd/fetch.h"
#include "kernels/simd/inline.h"

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

// One row reads A and B from memory, once. A core has only so many lines on their way to it, and what it
// computes while they are fewer is time lost: each step asks for lines that come kLinesAhead later, and the
// last ones for what the caller goes on with.

inline constexpr std::size_t kLinesAhead = 48;
inline constexpr std::size_t kMostTogether = 8;  ///< rows of A

/// What will be read: of `rows` rows, `stride` bytes apart, a line each by turns.
struct LinesToCome {
  const std::byte* data = nullptr;
  std::size_t rows = 1, stride = 0;
  MC_INLINE void prefetch(std::size_t row, std::size_t line) const {
    fetch_line(data + row * stride + line * 64);
  }
};

/// lora_shrink() for one row; `next` is what will be read afterwards.
void lora_shrink_one(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const float* x,
                     float* out, const LinesToCome& next);
/// What lora_shrink_one() with these arguments begins with.
LinesToCome lora_shrink_begin(DType type, const std::byte* a, std::size_t rank, std::size_t columns);

/// lora_expand() for one row, t [rank], and B by tiles of 32 columns, [tiles, rank, 32]: y [columns]. Its
/// first kLinesAhead lines are the caller's to ask for.
void lora_expand_tiles(DType type, const std::byte* b, std::size_t rank, const float* t, std::size_t columns,
                       float* y);

}  // namespace metal_candle::simd
