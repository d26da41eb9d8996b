#include "kernels/gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/compute_pool.h"
#include "kernels/scratch.h"

namespace metal_candle {
namespace {

constexpr std::size_t kDepth = 256;         // k of one block: a panel of B and the rows of A fit L1
constexpr std::size_t kBlockColumns = 256;  // columns of one block
constexpr std::size_t kBlockRows = 768;     // rows of A that stay in L2 while panels of B pass
constexpr std::size_t kTasksPerThread = 4;

struct Range {
  std::size_t begin, end;
};

// Packs rows [k, k + depth) of B, columns [columns.begin, columns.end) of C, into panels of `width` columns;
// columns of C outside the term are zero.
void pack(const GemmTerm& term, std::size_t k, std::size_t depth, Range columns, std::size_t width, bool bf16,
          float* out, float* scratch) {
  const float* rows[simd::kMaxGemmColumns];
  const Range own{std::max(columns.begin, term.begin), std::min(columns.end, term.end)};
  if (!term.b_transposed) {
    const std::size_t count = own.end - own.begin;
    for (std::size_t p = 0; p < depth; ++p) {
      const float* row = term.b->row(k + p, own.begin - term.begin, count, scratch);
      for (std::size_t j = columns.begin; j < columns.end; j += width) {
        float* to = out + (j - columns.begin) * depth + p * width;
        const Range part{std::max(j, own.begin), std::min(j + width, own.end)};
        if (part.begin == j && part.end == j + width) {
          std::memcpy(to, row + (j - own.begin), width * sizeof(float));
          continue;
        }
        std::fill_n(to, width, 0.0f);
        if (part.begin < part.end)
          std::memcpy(to + (part.begin - j), row + (part.begin - own.begin),
                      (part.end - part.begin) * sizeof(float));
      }
    }
  } else {
    for (std::size_t j = columns.begin; j < columns.end; j += width, out += width * depth) {
      const std::size_t last = std::min(j + width, columns.end);
      std::size_t zeros = 0;
      for (std::size_t i = j; i < last; ++i) {
        float* space = scratch + (i - j) * depth;
        if (i >= own.begin && i < own.end) {
          rows[i - j] = term.b->row(i - term.begin, k, depth, space);
        } else {
          std::fill_n(space, depth, 0.0f);
          rows[i - j] = space;
          ++zeros;
        }
      }
      if (zeros == last - j)
        std::fill_n(out, width * depth, 0.0f);
      else
        simd::gemm_pack_transposed(rows, last - j, depth, width, out);
    }
    out -= (columns.end - columns.begin + width - 1) / width * width * depth;
  }
  if (bf16) {
    const std::size_t floats = (columns.end - columns.begin + width - 1) / width * width * depth;
    simd::round_to_bf16(out, floats, out);
  }
}

// A tile of rows of A in memory of its own: rounded, or gathered from a transposed matrix, whose rows would
// each touch a page per element.
void copy_rows(const simd::GemmRows& a, std::size_t rows, std::size_t depth, bool bf16, float* out) {
  if (a.k_stride == 1) {
    for (std::size_t i = 0; i < rows; ++i)
      simd::round_to_bf16(a.data + i * a.row_stride, depth, out + i * depth);
    return;
  }
  for (std::size_t p = 0; p < depth; ++p)
    for (std::size_t i = 0; i < rows; ++i) out[p * rows + i] = a.data[i * a.row_stride + p * a.k_stride];
  if (bf16) simd::round_to_bf16(out, rows * depth, out);
}

// What copy_rows wrote.
simd::GemmRows copied_rows(const simd::GemmRows& a, std::size_t rows, std::size_t depth, const float* copy) {
  return a.k_stride == 1 ? simd::GemmRows{copy, depth, 1} : simd::GemmRows{copy, 1, rows};
}

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// Blocks of k of about one size, in whole blocks of 32 as quantized weights have them.
std::size_t even_depth(std::size_t k) {
  const std::size_t even = ceil_div(k, ceil_div(k, kDepth));
  return std::min(kDepth, ceil_div(even, std::size_t{32}) * 32);
}

// One block of C, all of its sum.
void block(const GemmCall& call, Range rows, Range columns, simd::GemmTile tile) {
  thread_local Scratch panel_memory, row_memory, a_memory;
  float* panels = panel_memory.get<float>((kBlockColumns + tile.columns) * kDepth);
  float* scratch = row_memory.get<float>(std::max(kBlockColumns + tile.columns, tile.columns * kDepth));
  const std::size_t block_rows = kBlockRows / tile.rows * tile.rows;
  bool first = !call.accumulate;
  for (const GemmTerm& term : call.terms) {
    if (term.begin >= columns.end || term.end <= columns.begin) continue;
    const std::size_t step = even_depth(term.k);
    for (std::size_t k = 0; k < term.k; k += step) {
      const std::size_t depth = std::min(step, term.k - k);
      pack(term, k, depth, columns, tile.columns, call.bf16, panels, scratch);
      // A panel of B stays in L1 while rows of A, which are fewer bytes, pass by from L2.
      for (std::size_t top = rows.begin; top < rows.end; top += block_rows) {
        const std::size_t bottom = std::min(top + block_rows, rows.end);
        const bool copied = call.bf16 || term.a.k_stride != 1;
        float* copies = copied ? a_memory.get<float>(block_rows * kDepth) : nullptr;
        const auto rows_at = [&](std::size_t i) {
          return simd::GemmRows{term.a.data + i * term.a.row_stride + k * term.a.k_stride, term.a.row_stride,
                                term.a.k_stride};
        };
        for (std::size_t i = top; copied && i < bottom; i += tile.rows)
          copy_rows(rows_at(i), std::min(tile.rows, bottom - i), depth, call.bf16,
                    copies + (i - top) * kDepth);
        for (std::size_t j = columns.begin; j < columns.end; j += tile.columns)
          for (std::size_t i = top; i < bottom; i += tile.rows) {
            const std::size_t count = std::min(tile.rows, bottom - i);
            const simd::GemmRows a =
                copied ? copied_rows(term.a, count, depth, copies + (i - top) * kDepth) : rows_at(i);
            simd::gemm_tile_product(a, count, panels + (j - columns.begin) * depth, depth,
                                    call.c + i * call.c_stride + j, call.c_stride,
                                    std::min(tile.columns, columns.end - j), !first);
          }
      }
      first = false;
    }
  }
}

}  // namespace

void gemm_serial(const GemmCall& call) {
  const simd::GemmTile tile = simd::gemm_tile();
  for (std::size_t j = 0; j < call.n; j += kBlockColumns)
    block(call, {0, call.m}, {j, std::min(j + kBlockColumns, call.n)}, tile);
}

void gemm(const GemmCall& call) {
  ThreadPool& pool = compute_pool();
  if (pool.size() == 1) return gemm_serial(call);
  const simd::GemmTile tile = simd::gemm_tile();
  // Columns are shared out first, since a block of B is packed once for all its rows; few columns leave rows.
  const std::size_t panels = ceil_div(call.n, tile.columns);
  std::size_t column_parts = ceil_div(call.n, kBlockColumns);
  if (panels >= pool.size()) {
    column_parts = ceil_div(column_parts, pool.size()) * pool.size();
    column_parts = std::min(std::max(column_parts, kTasksPerThread * pool.size()), panels);
    column_parts = column_parts / pool.size() * pool.size();
  }
  const std::size_t row_tiles = ceil_div(call.m, tile.rows);
  const std::size_t row_parts =
      panels >= pool.size() ? 1 : std::min(row_tiles, kTasksPerThread * pool.size());
  pool.parallel_for(column_parts * row_parts, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t task = begin; task < end; ++task) {
      const std::size_t column = task % column_parts, row = task / column_parts;
      const Range columns{panels * column / column_parts * tile.columns,
                          std::min(panels * (column + 1) / column_parts * tile.columns, call.n)};
      const Range rows{row_tiles * row / row_parts * tile.rows,
                       std::min(row_tiles * (row + 1) / row_parts * tile.rows, call.m)};
      block(call, rows, columns, tile);
    }
  });
}

}  // namespace metal_candle
