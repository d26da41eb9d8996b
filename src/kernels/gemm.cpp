#include "kernels/gemm.h"

#include <algorithm>
#include <span>
#include <vector>

#include "kernels/compute_pool.h"
#include "kernels/gemm_pack.h"
#include "kernels/packed_panels.h"
#include "kernels/scratch.h"

namespace metal_candle {
namespace {

constexpr std::size_t kBlockColumns = 768;  // whose panels are packed at a time
constexpr std::size_t kBlockRows = 1152;    // for which B is; A's block stays in L2 while panels of B pass
constexpr std::size_t kPackRows = 48;       // of A in one task: whole tiles of every kernel
constexpr std::size_t kTogether = 704;      // depth of all pieces that are multiplied together
constexpr std::size_t kTasksPerThread = 8;

struct Range {
  std::size_t begin, end;
  std::size_t size() const { return end - begin; }
};

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

// A stretch of one term's sum, and where its operands lie packed.
struct Piece {
  const GemmTerm* term;
  std::size_t k, depth;
  std::size_t a_bytes, b_bytes;  // of a tile and of a panel
  bool kept;                     // B is packed already
  std::byte* a = nullptr;
  std::byte* made = nullptr;  // room for panels of B
  // For the columns at hand:
  std::size_t first_panel = 0, last_panel = 0;
  const std::byte* b = nullptr;
  bool starts = false;  // overwrites C
  std::size_t panels_to_make() const { return kept ? 0 : last_panel - first_panel; }
};

// The stretches of all terms, in order.
void list_pieces(const GemmCall& call, const simd::GemmKernel& kernel, std::vector<Piece>& out) {
  out.clear();
  for (const GemmTerm& term : call.terms) {
    const std::size_t step = stretch_depth(term.k);
    const bool kept = term.panels && term.panels->serves(kernel);
    for (std::size_t k = 0; k < term.k; k += step) {
      const std::size_t depth = std::min(step, term.k - k);
      out.push_back({&term, k, depth, kernel.a_bytes(depth), kernel.b_bytes(depth), kept});
    }
  }
}

// Which panels of a block of columns the piece has. Columns that the block's first term leaves alone are
// multiplied by zero, so that they hold something.
void find_panels(const GemmCall& call, const simd::GemmKernel& kernel, Range columns, Piece& piece) {
  const auto touches = [&](const GemmTerm& t) { return t.begin < columns.end && t.end > columns.begin; };
  const GemmTerm& term = *piece.term;
  piece.first_panel = piece.last_panel = 0;
  piece.b = piece.kept ? term.panels->panel(piece.k, piece.depth, columns.begin) : piece.made;
  if (!touches(term)) return;
  piece.starts = !call.accumulate && piece.k == 0 && &*std::ranges::find_if(call.terms, touches) == &term;
  const Range own =
      piece.starts ? columns : Range{std::max(columns.begin, term.begin), std::min(columns.end, term.end)};
  piece.first_panel = (own.begin - columns.begin) / kernel.columns;
  piece.last_panel = ceil_div(own.end - columns.begin, kernel.columns);
}

// Some pieces, for some rows of C. Their operands are packed by all threads, A once and B for a block of
// columns at a time; then all multiply, so that thin terms, as LoRA's, find C in the cache.
template <class Each>
void multiply_pieces(const GemmCall& call, const simd::GemmKernel& kernel, Range rows,
                     std::span<Piece> pieces, const Each& each) {
  thread_local Scratch memory;
  const std::size_t tiles = ceil_div(rows.size(), kernel.rows);
  const std::size_t block = even_part(call.n, kBlockColumns, kernel.columns);
  std::size_t bytes = 0;
  const auto made_bytes = [&](const Piece& piece) {
    return piece.kept ? 0 : block / kernel.columns * piece.b_bytes;
  };
  for (const Piece& piece : pieces) bytes += tiles * piece.a_bytes + made_bytes(piece);
  std::byte* at = memory.get<std::byte>(bytes);
  for (Piece& piece : pieces) {
    piece.a = at;
    piece.made = at + tiles * piece.a_bytes;
    at = piece.made + made_bytes(piece);
  }
  for (std::size_t column = 0; column < call.n; column += block) {
    const Range columns{column, std::min(column + block, call.n)};
    const std::size_t row_tasks = column == 0 ? ceil_div(rows.size(), kPackRows) : 0;
    std::size_t tasks = 0;
    for (Piece& piece : pieces) {
      find_panels(call, kernel, columns, piece);
      tasks += row_tasks + piece.panels_to_make();
    }
    each(tasks, [&](std::size_t i) {
      const Piece* piece = pieces.data();
      for (; i >= row_tasks + piece->panels_to_make(); ++piece) i -= row_tasks + piece->panels_to_make();
      if (i < row_tasks) {
        const std::size_t top = i * kPackRows;
        return pack_rows(kernel, piece->term->a, rows.begin + top,
                         std::min(rows.begin + top + kPackRows, rows.end), piece->k, piece->depth,
                         piece->a + top / kernel.rows * piece->a_bytes);
      }
      const std::size_t panel = i - row_tasks;
      pack_panel(kernel, *piece->term, piece->k, piece->depth,
                 columns.begin + (piece->first_panel + panel) * kernel.columns,
                 piece->made + panel * piece->b_bytes);
    });
    // A tile of A stays in L1 while panels of B pass by from L2.
    const std::size_t panels = ceil_div(columns.size(), kernel.columns);
    const std::size_t parts = std::min(panels, ceil_div(kTasksPerThread * each.threads(), tiles));
    each(tiles * parts, [&](std::size_t i) {
      const std::size_t tile = i / parts, part = i % parts, row = rows.begin + tile * kernel.rows;
      for (std::size_t p = panels * part / parts; p < panels * (part + 1) / parts; ++p) {
        const std::size_t left = columns.begin + p * kernel.columns;
        for (const Piece& piece : pieces) {
          if (p < piece.first_panel || p >= piece.last_panel) continue;
          kernel.product(piece.a + tile * piece.a_bytes, std::min(kernel.rows, rows.end - row),
                         piece.b + (p - piece.first_panel) * piece.b_bytes, piece.depth,
                         call.c + row * call.c_stride + left, call.c_stride,
                         std::min(kernel.columns, columns.end - left), !piece.starts);
        }
      }
    });
  }
}

template <class Each>
void multiply(const GemmCall& call, const Each& each) {
  thread_local std::vector<Piece> pieces;
  const simd::GemmKernel& kernel = call.half ? simd::gemm_half() : simd::gemm_f32();
  const std::size_t block_rows = even_part(call.m, kBlockRows, kPackRows);
  list_pieces(call, kernel, pieces);
  for (std::size_t i = 0; i < call.m; i += block_rows)
    for (std::size_t first = 0, last = 0; first < pieces.size(); first = last) {
      std::size_t depth = 0;
      while (last < pieces.size() && (last == first || depth + pieces[last].depth <= kTogether))
        depth += pieces[last++].depth;
      multiply_pieces(call, kernel, {i, std::min(i + block_rows, call.m)},
                      std::span(pieces).subspan(first, last - first), each);
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
