#include "kernels/gemm_pack.h"

#include <algorithm>
#include <cstring>

#include "kernels/scratch.h"

namespace metal_candle {
namespace {

// Rows [k, k + depth) of B as one panel [depth][width] for columns [column, column + width) of C; columns
// outside the term are zero.
void fill_panel(const GemmTerm& term, std::size_t k, std::size_t depth, std::size_t column, std::size_t width,
                float* out) {
  thread_local Scratch memory;
  const std::size_t begin = std::clamp(term.begin, column, column + width);
  const std::size_t end = std::clamp(term.end, begin, column + width);
  const std::size_t first = begin - column, count = end - begin;
  if (count < width) std::fill_n(out, depth * width, 0.0f);
  if (count == 0) return;
  if (!term.b_transposed) {
    for (std::size_t p = 0; p < depth; ++p) {
      float* to = out + p * width + first;
      const float* row = term.b->row(k + p, begin - term.begin, count, to);
      if (row != to) std::memcpy(to, row, count * sizeof(float));
    }
    return;
  }
  const float* rows[simd::kMaxGemmColumns];
  float* scratch = memory.get<float>(simd::kMaxGemmColumns * simd::kMaxGemmDepth);
  for (std::size_t i = 0; i < count; ++i)
    rows[i] = term.b->row(begin - term.begin + i, k, depth, scratch + i * depth);
  if (count == width || first == 0) return simd::gemm_transpose(rows, count, depth, width, out);
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t p = 0; p < depth; ++p) out[p * width + first + i] = rows[i][p];
}

}  // namespace

std::size_t even_part(std::size_t n, std::size_t most, std::size_t unit) {
  const std::size_t whole = most / unit * unit, parts = std::max(ceil_div(n, whole), std::size_t{1});
  return std::min(whole, ceil_div(ceil_div(n, parts), unit) * unit);
}

void pack_panel(const simd::GemmKernel& kernel, const GemmTerm& term, std::size_t k, std::size_t depth,
                std::size_t column, std::byte* out) {
  thread_local Scratch memory;
  float* panel =
      kernel.pack_b ? memory.get<float>(kernel.columns * simd::kMaxGemmDepth) : reinterpret_cast<float*>(out);
  fill_panel(term, k, depth, column, kernel.columns, panel);
  if (kernel.pack_b) kernel.pack_b(panel, depth, out);
}

void pack_rows(const simd::GemmKernel& kernel, const GemmRows& a, std::size_t begin, std::size_t end,
               std::size_t k, std::size_t depth, std::byte* out) {
  thread_local Scratch memory;
  for (std::size_t i = begin; i < end; i += kernel.rows, out += kernel.a_bytes(depth)) {
    const std::size_t count = std::min(kernel.rows, end - i);
    const float* from = a.data + i * a.row_stride + k * a.k_stride;
    std::size_t stride = a.row_stride;
    if (a.k_stride != 1) {
      const float* lines[simd::kMaxGemmDepth];
      for (std::size_t p = 0; p < depth; ++p) lines[p] = from + p * a.k_stride;
      float* rows_of_a = memory.get<float>(kernel.rows * simd::kMaxGemmDepth);
      simd::gemm_transpose(lines, depth, count, depth, rows_of_a);
      from = rows_of_a;
      stride = depth;
    }
    kernel.pack_a(from, stride, count, depth, out);
  }
}

void multiply_packed(const simd::GemmKernel& kernel, const std::byte* a, std::size_t rows, const std::byte* b,
                     std::size_t panel_bytes, std::size_t columns, std::size_t depth, float* c,
                     std::size_t c_stride, bool accumulate) {
  for (std::size_t i = 0; i < rows; i += kernel.rows, a += kernel.a_bytes(depth))
    for (std::size_t j = 0; j < columns; j += kernel.columns)
      kernel.product(a, std::min(kernel.rows, rows - i), b + j / kernel.columns * panel_bytes, depth,
                     c + i * c_stride + j, c_stride, std::min(kernel.columns, columns - j), accumulate);
}

}  // namespace metal_candle
