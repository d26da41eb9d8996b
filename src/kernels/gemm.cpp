#include "kernels/gemm.h"

#include <algorithm>
#include <span>
#include <vector>

#include "kernels/compute_pool.h"
#include "kernels/gemm_pack.h"
#include "kernels/scratch.h"

namespace metal_candle {
namespace {

constexpr std::size_t kBlockColumns = 768;  // for which A is packed once
constexpr std::size_t kBlockRows = 1152;    // for which B is; A's block stays in L2 while panels of B pass
constexpr std::size_t kPackRows = 48;       // of A in one task: whole tiles of every kernel
constexpr std::size_t kTogether = 704;      // depth of all pieces that are multiplied together
constexpr std::size_t kTasksPerThread = 8;

struct Range {
  std::size_t begin, end;
  std::size_t size() const { return end - begin; }
};

std::size_t ceil_div(std::size_t a, std::size_t b) { return (a + b - 1) / b; }
std::size_t round_up(std::size_t a, std::size_t b) { return ceil_div(a, b) * b; }

// The largest part when n is cut evenly into parts of at most `most`, a multiple of `unit`.
std::size_t even_part(std::size_t n, std::size_t most, std::size_t unit) {
  const std::size_t whole = most / unit * unit, parts = std::max(ceil_div(n, whole), std::size_t{1});
  return std::min(whole, round_up(ceil_div(n, parts), unit));
}

// Calls f(i) for i < n, on one thread or several.
struct Serially {
  template <typename F>
  void operator()(std::size_t n, const F& f) const {
    for (std::size_t i = 0; i < n; ++i) f(i);
  }
  std::size_t threads() const { return 1; }
};
struct OnPool {
  template <typename F>
  void operator()(std::size_t n, const F& f) const {
    pool.parallel_for(n, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) f(i);
    });
  }
  std::size_t threads() const { return pool.size(); }
  ThreadPool& pool;
};

// A stretch of one term's sum within one block of C.
struct Piece {
  const GemmTerm* term;
  std::size_t k, depth;
  std::size_t first_panel, last_panel;  // of the block
  bool starts;                          // overwrites C
  std::size_t a_bytes, b_bytes;         // of a tile and of a panel
  std::byte *a, *b;
};

// The stretches of all terms that touch the columns, in order.
void list_pieces(const GemmCall& call, const simd::GemmKernel& kernel, Range columns,
                 std::vector<Piece>& out) {
  out.clear();
  for (const GemmTerm& term : call.terms) {
    if (term.begin >= columns.end || term.end <= columns.begin) continue;
    const std::size_t step = even_part(term.k, simd::kMaxGemmDepth, 64);
    for (std::size_t k = 0; k < term.k; k += step) {
      const bool starts = out.empty() && !call.accumulate;
      // Columns that the first term leaves alone are multiplied by zero, so that they hold something.
      const Range own =
          starts ? columns : Range{std::max(columns.begin, term.begin), std::min(columns.end, term.end)};
      const std::size_t depth = std::min(step, term.k - k);
      out.push_back({&term, k, depth, (own.begin - columns.begin) / kernel.columns,
                     ceil_div(own.end - columns.begin, kernel.columns), starts, kernel.a_bytes(depth),
                     kernel.b_bytes(depth), nullptr, nullptr});
    }
  }
}

// All operands of some pieces are packed by all threads; then all multiply, so that thin terms, as LoRA's,
// find C in the cache.
template <class Each>
void multiply_pieces(const GemmCall& call, const simd::GemmKernel& kernel, Range rows, Range columns,
                     std::span<Piece> pieces, const Each& each) {
  thread_local Scratch memory;
  const std::size_t tiles = ceil_div(rows.size(), kernel.rows);
  const std::size_t row_tasks = ceil_div(rows.size(), kPackRows);
  std::size_t bytes = 0, tasks = 0;
  for (const Piece& piece : pieces)
    bytes += tiles * piece.a_bytes + (piece.last_panel - piece.first_panel) * piece.b_bytes;
  std::byte* at = memory.get<std::byte>(bytes);
  for (Piece& piece : pieces) {
    piece.a = at;
    piece.b = at + tiles * piece.a_bytes;
    at = piece.b + (piece.last_panel - piece.first_panel) * piece.b_bytes;
    tasks += piece.last_panel - piece.first_panel + row_tasks;
  }
  each(tasks, [&](std::size_t i) {
    const Piece* piece = pieces.data();
    for (; i >= piece->last_panel - piece->first_panel + row_tasks; ++piece)
      i -= piece->last_panel - piece->first_panel + row_tasks;
    if (i < row_tasks) {
      const std::size_t top = i * kPackRows;
      return pack_rows(kernel, piece->term->a, rows.begin + top,
                       std::min(rows.begin + top + kPackRows, rows.end), piece->k, piece->depth,
                       piece->a + top / kernel.rows * piece->a_bytes);
    }
    const std::size_t panel = i - row_tasks;
    pack_panel(kernel, *piece->term, piece->k, piece->depth,
               columns.begin + (piece->first_panel + panel) * kernel.columns,
               piece->b + panel * piece->b_bytes);
  });
  // A tile of A stays in L1 while panels of B pass by from L2.
  const std::size_t panels = ceil_div(columns.size(), kernel.columns);
  const std::size_t parts = std::min(panels, ceil_div(kTasksPerThread * each.threads(), tiles));
  each(tiles * parts, [&](std::size_t i) {
    const std::size_t tile = i / parts, part = i % parts, row = rows.begin + tile * kernel.rows;
    for (std::size_t p = panels * part / parts; p < panels * (part + 1) / parts; ++p) {
      const std::size_t column = columns.begin + p * kernel.columns;
      for (const Piece& piece : pieces) {
        if (p < piece.first_panel || p >= piece.last_panel) continue;
        kernel.product(piece.a + tile * piece.a_bytes, std::min(kernel.rows, rows.end - row),
                       piece.b + (p - piece.first_panel) * piece.b_bytes, piece.depth,
                       call.c + row * call.c_stride + column, call.c_stride,
                       std::min(kernel.columns, columns.end - column), !piece.starts);
      }
    }
  });
}

template <class Each>
void multiply(const GemmCall& call, const Each& each) {
  thread_local std::vector<Piece> pieces;
  const simd::GemmKernel& kernel = call.half ? simd::gemm_half() : simd::gemm_f32();
  const std::size_t block_rows = even_part(call.m, kBlockRows, kPackRows);
  const std::size_t block_columns = even_part(call.n, kBlockColumns, kernel.columns);
  for (std::size_t i = 0; i < call.m; i += block_rows)
    for (std::size_t j = 0; j < call.n; j += block_columns) {
      const Range rows{i, std::min(i + block_rows, call.m)}, columns{j, std::min(j + block_columns, call.n)};
      list_pieces(call, kernel, columns, pieces);
      for (std::size_t first = 0, last = 0; first < pieces.size(); first = last) {
        std::size_t depth = 0;
        while (last < pieces.size() && (last == first || depth + pieces[last].depth <= kTogether))
          depth += pieces[last++].depth;
        multiply_pieces(call, kernel, rows, columns, std::span(pieces).subspan(first, last - first), each);
      }
    }
}

}  // namespace

void gemm_serial(const GemmCall& call) { multiply(call, Serially{}); }

void gemm(const GemmCall& call) {
  ThreadPool& pool = compute_pool();
  if (pool.size() == 1) return gemm_serial(call);
  multiply(call, OnPool{pool});
}

}  // namespace metal_candle
