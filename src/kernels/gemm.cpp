#include "kernels/gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/compute_pool.h"
#include "kernels/scratch.h"

namespace metal_candle {
namespace {

constexpr std::size_t kBlockColumns = 768;  // for which A is packed once
constexpr std::size_t kBlockRows = 1152;    // for which B is; A's block stays in L2 while panels of B pass
constexpr std::size_t kPackRows = 48;       // of A in one task: whole tiles of every kernel
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

void pack_panel(const simd::GemmKernel& kernel, const GemmTerm& term, std::size_t k, std::size_t depth,
                std::size_t column, std::byte* out) {
  thread_local Scratch memory;
  float* panel =
      kernel.pack_b ? memory.get<float>(kernel.columns * simd::kMaxGemmDepth) : reinterpret_cast<float*>(out);
  fill_panel(term, k, depth, column, kernel.columns, panel);
  if (kernel.pack_b) kernel.pack_b(panel, depth, out);
}

// Rows of A, tile by tile.
void pack_rows(const simd::GemmKernel& kernel, const GemmRows& a, Range rows, std::size_t k,
               std::size_t depth, std::byte* out) {
  thread_local Scratch memory;
  for (std::size_t i = rows.begin; i < rows.end; i += kernel.rows, out += kernel.a_bytes(depth)) {
    const std::size_t count = std::min(kernel.rows, rows.end - i);
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

// Every block of A and of B is packed once, by all threads, and then multiplied by all.
template <class Each>
void multiply(const GemmCall& call, const Each& each) {
  thread_local Scratch a_memory, b_memory;
  const simd::GemmKernel& kernel = call.half ? simd::gemm_half() : simd::gemm_f32();
  const std::size_t block_rows = even_part(call.m, kBlockRows, kPackRows);
  const std::size_t block_columns = even_part(call.n, kBlockColumns, kernel.columns);
  const auto block = [&](Range rows, Range columns) {
    bool first = !call.accumulate;
    for (const GemmTerm& term : call.terms) {
      const std::size_t step = even_part(term.k, simd::kMaxGemmDepth, 64);
      for (std::size_t k = 0; k < term.k; k += step, first = false) {
        const std::size_t depth = std::min(step, term.k - k);
        const std::size_t a_bytes = kernel.a_bytes(depth), b_bytes = kernel.b_bytes(depth);
        // Columns that the term leaves alone are multiplied by zero once, so that they hold something.
        const Range own = first ? columns
                                : Range{std::max(columns.begin, term.begin / kernel.columns * kernel.columns),
                                        std::min(columns.end, term.end)};
        if (own.begin >= own.end) continue;
        const std::size_t panels = ceil_div(own.size(), kernel.columns);
        const std::size_t tiles = ceil_div(rows.size(), kernel.rows);
        const std::size_t row_tasks = ceil_div(rows.size(), kPackRows);
        std::byte* a = a_memory.get<std::byte>(tiles * a_bytes);
        std::byte* b = b_memory.get<std::byte>(panels * b_bytes);
        each(panels + row_tasks, [&](std::size_t i) {
          if (i < panels)
            return pack_panel(kernel, term, k, depth, own.begin + i * kernel.columns, b + i * b_bytes);
          const std::size_t top = (i - panels) * kPackRows;
          pack_rows(kernel, term.a, {rows.begin + top, std::min(rows.begin + top + kPackRows, rows.end)}, k,
                    depth, a + top / kernel.rows * a_bytes);
        });
        // A tile of A stays in L1 while panels of B pass by from L2.
        const std::size_t parts = std::min(panels, ceil_div(kTasksPerThread * each.threads(), tiles));
        each(tiles * parts, [&](std::size_t i) {
          const std::size_t tile = i / parts, part = i % parts;
          const std::size_t row = rows.begin + tile * kernel.rows;
          for (std::size_t p = panels * part / parts; p < panels * (part + 1) / parts; ++p) {
            const std::size_t column = own.begin + p * kernel.columns;
            kernel.product(a + tile * a_bytes, std::min(kernel.rows, rows.end - row), b + p * b_bytes, depth,
                           call.c + row * call.c_stride + column, call.c_stride,
                           std::min(kernel.columns, own.end - column), !first);
          }
        });
      }
    }
  };
  for (std::size_t i = 0; i < call.m; i += block_rows)
    for (std::size_t j = 0; j < call.n; j += block_columns)
      block({i, std::min(i + block_rows, call.m)}, {j, std::min(j + block_columns, call.n)});
}

}  // namespace

void gemm_serial(const GemmCall& call) { multiply(call, Serially{}); }

void gemm(const GemmCall& call) {
  ThreadPool& pool = compute_pool();
  if (pool.size() == 1) return gemm_serial(call);
  multiply(call, OnPool{pool});
}

}  // namespace metal_candle
