// Operands of dense products packed for a register tile (simd/gemm.h), tile by tile and panel by panel: what
// kernels/gemm does for each call, for those who multiply an operand more than once. One thread.
#pragma once

#include <cstddef>

#include "kernels/gemm.h"

namespace metal_candle {

constexpr std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
/// The largest part when n is cut evenly into parts of at most `most`, a multiple of `unit`.
std::size_t even_part(std::size_t n, std::size_t most, std::size_t unit);
/// Of a sum over k, which is packed and multiplied stretch by stretch: the depth of all but the last.
inline std::size_t stretch_depth(std::size_t k) { return even_part(k, simd::kMaxGemmDepth, 64); }

/// Rows [begin, end) of A, columns [k, k + depth), as tiles of kernel.a_bytes(depth).
void pack_rows(const simd::GemmKernel& kernel, const GemmRows& a, std::size_t begin, std::size_t end,
               std::size_t k, std::size_t depth, std::byte* out);

/// Rows [k, k + depth) of the term's B, for columns of C from `column` on: one panel of
/// kernel.b_bytes(depth). Columns outside the term are zero.
void pack_panel(const simd::GemmKernel& kernel, const GemmTerm& term, std::size_t k, std::size_t depth,
                std::size_t column, std::byte* out);

/// c [rows, panels * kernel.columns] (+)= A · B, both packed `depth` deep; panels lie panel_bytes apart.
void multiply_packed(const simd::GemmKernel& kernel, const std::byte* a, std::size_t rows, const std::byte* b,
                     std::size_t panel_bytes, std::size_t columns, std::size_t depth, float* c,
                     std::size_t c_stride, bool accumulate);

}  // namespace metal_candle
