#include "kernels/packed_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/compute_pool.h"
#include "kernels/gemm.h"
#include "kernels/scratch.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/softmax.h"
#include "kernels/simd/train_ops.h"

namespace metal_candle {
namespace {

constexpr std::size_t kBlock = 96;  // rows and keys of one block: whole register tiles, and L1 holds a block

struct Block {
  std::size_t begin, end;
  std::size_t size() const { return end - begin; }
};

// Where the heads of one row stand.
struct Layout {
  std::size_t d, heads, kv_heads;
  explicit Layout(const AttentionSpec& spec) : d(spec.head_dim), heads(spec.heads), kv_heads(spec.kv_heads) {}
  std::size_t width() const { return (heads + 2 * kv_heads) * d; }
  std::size_t out_width() const { return heads * d; }
  std::size_t q(std::size_t row, std::size_t head) const { return row * width() + head * d; }
  std::size_t k(std::size_t row, std::size_t kv) const { return row * width() + (heads + kv) * d; }
  std::size_t v(std::size_t row, std::size_t kv) const { return row * width() + (heads + kv_heads + kv) * d; }
  std::size_t out(std::size_t row, std::size_t head) const { return row * out_width() + head * d; }
};

// Keys of the block that a row may see.
Block visible(const AttentionSpec& spec, const PackedSequence& s, std::size_t row, Block keys) {
  std::size_t first = s.begin;
  if (spec.window && row + 1 > s.begin + spec.window) first = row + 1 - spec.window;
  const std::size_t begin = std::clamp(first, keys.begin, keys.end);
  return {begin, std::clamp(row + 1, begin, keys.end)};
}

// The first key that any row of the block sees.
std::size_t first_key(const AttentionSpec& spec, const PackedSequence& s, std::size_t row) {
  return spec.window && row + 1 > s.begin + spec.window ? row + 1 - spec.window : s.begin;
}

// c [rows, n] (+)= a · b or a · bᵀ.
void product(const GemmRows& a, std::size_t rows, const float* b, std::size_t b_stride, bool transposed,
             std::size_t k, std::size_t n, float* c, std::size_t c_stride, bool accumulate, bool bf16) {
  const FloatRows source(b, b_stride);
  const GemmTerm term{a, &source, transposed, k, 0, n};
  gemm_serial({rows, n, {&term, 1}, c, c_stride, accumulate, bf16});
}

struct Task {
  const PackedSequence* sequence;
  std::size_t head;
  Block rows;
};

void attend(const AttentionSpec& spec, const Task& task, std::size_t rows, const float* qkv, float* out,
            float* log_sums, bool bf16) {
  thread_local Scratch memory;
  const Layout at(spec);
  const std::size_t kv = task.head / (at.heads / at.kv_heads), d = at.d;
  float* scores = memory.get<float>(kBlock * kBlock);
  float largest[kBlock], sums[kBlock];
  std::fill_n(largest, kBlock, -std::numeric_limits<float>::infinity());
  std::fill_n(sums, kBlock, 0.0f);
  for (std::size_t i = task.rows.begin; i < task.rows.end; ++i)
    std::fill_n(out + at.out(i, task.head), d, 0.0f);
  for (std::size_t j = first_key(spec, *task.sequence, task.rows.begin); j < task.rows.end; j += kBlock) {
    const Block keys{j, std::min(j + kBlock, task.rows.end)};
    product({qkv + at.q(task.rows.begin, task.head), at.width(), 1}, task.rows.size(), qkv + at.k(j, kv),
            at.width(), true, d, keys.size(), scores, kBlock, false, bf16);
    for (std::size_t i = 0; i < task.rows.size(); ++i) {
      float* row = scores + i * kBlock;
      const Block seen = visible(spec, *task.sequence, task.rows.begin + i, keys);
      std::fill(row, row + (seen.begin - j), 0.0f);
      std::fill(row + (seen.end - j), row + keys.size(), 0.0f);
      if (seen.size() == 0) continue;
      float* from = row + (seen.begin - j);
      const float top = std::max(largest[i], spec.scale * simd::row_max(from, seen.size()));
      simd::exp_scaled(from, seen.size(), spec.scale, top, 1, from);
      const float shrink = std::exp(largest[i] - top);
      sums[i] = sums[i] * shrink + simd::sum_of(from, seen.size());
      if (shrink != 1) simd::scale(out + at.out(task.rows.begin + i, task.head), shrink, d);
      largest[i] = top;
    }
    product({scores, kBlock, 1}, task.rows.size(), qkv + at.v(j, kv), at.width(), false, keys.size(), d,
            out + at.out(task.rows.begin, task.head), at.out_width(), true, bf16);
  }
  for (std::size_t i = 0; i < task.rows.size(); ++i) {
    simd::scale(out + at.out(task.rows.begin + i, task.head), 1 / sums[i], d);
    log_sums[task.head * rows + task.rows.begin + i] = largest[i] + std::log(sums[i]);
  }
}

// What one head's gradient reads and writes; dk and dv are the head's own.
struct Gradient {
  const float *qkv, *out, *log_sums, *dout;
  float *dqkv, *dk, *dv;  // dk, dv: [rows, heads * d]
};

void attend_backward(const AttentionSpec& spec, const PackedSequence& s, std::size_t head, std::size_t rows,
                     const Gradient& g, bool bf16) {
  thread_local Scratch memory;
  const Layout at(spec);
  const std::size_t kv = head / (at.heads / at.kv_heads), d = at.d, width = at.width(), wide = at.out_width();
  float* p = memory.get<float>(2 * kBlock * kBlock + (s.end - s.begin));
  float* ds = p + kBlock * kBlock;
  float* delta = ds + kBlock * kBlock;
  for (std::size_t i = s.begin; i < s.end; ++i) {
    delta[i - s.begin] = simd::dot(g.out + at.out(i, head), g.dout + at.out(i, head), d);
    std::fill_n(g.dqkv + at.q(i, head), d, 0.0f);
    std::fill_n(g.dk + at.out(i, head), d, 0.0f);
    std::fill_n(g.dv + at.out(i, head), d, 0.0f);
  }
  for (std::size_t i = s.begin; i < s.end; i += kBlock) {
    const Block queries{i, std::min(i + kBlock, s.end)};
    for (std::size_t j = first_key(spec, s, i); j < queries.end; j += kBlock) {
      const Block keys{j, std::min(j + kBlock, queries.end)};
      product({g.qkv + at.q(i, head), width, 1}, queries.size(), g.qkv + at.k(j, kv), width, true, d,
              keys.size(), p, kBlock, false, bf16);
      product({g.dout + at.out(i, head), wide, 1}, queries.size(), g.qkv + at.v(j, kv), width, true, d,
              keys.size(), ds, kBlock, false, bf16);
      for (std::size_t r = 0; r < queries.size(); ++r) {
        float* pr = p + r * kBlock;
        float* dr = ds + r * kBlock;
        const Block seen = visible(spec, s, i + r, keys);
        const std::size_t before = seen.begin - j, after = seen.end - j;
        std::fill(pr, pr + before, 0.0f);
        std::fill(pr + after, pr + keys.size(), 0.0f);
        std::fill(dr, dr + before, 0.0f);
        std::fill(dr + after, dr + keys.size(), 0.0f);
        simd::exp_scaled(pr + before, seen.size(), spec.scale, g.log_sums[head * rows + i + r], 1,
                         pr + before);
        simd::softmax_backward(pr + before, dr + before, delta[i + r - s.begin], spec.scale, seen.size(),
                               dr + before);
      }
      product({p, 1, kBlock}, keys.size(), g.dout + at.out(i, head), wide, false, queries.size(), d,
              g.dv + at.out(j, head), wide, true, bf16);
      product({ds, 1, kBlock}, keys.size(), g.qkv + at.q(i, head), width, false, queries.size(), d,
              g.dk + at.out(j, head), wide, true, bf16);
      product({ds, kBlock, 1}, queries.size(), g.qkv + at.k(j, kv), width, false, keys.size(), d,
              g.dqkv + at.q(i, head), width, true, bf16);
    }
  }
}

}  // namespace

void packed_attention(const AttentionSpec& spec, std::span<const PackedSequence> sequences, std::size_t rows,
                      const float* qkv, float* out, float* log_sums, bool bf16) {
  thread_local std::vector<Task> tasks;
  tasks.clear();
  for (const PackedSequence& s : sequences)
    for (std::size_t i = s.begin; i < s.end; i += kBlock)
      for (std::size_t head = 0; head < spec.heads; ++head)
        tasks.push_back({&s, head, {i, std::min(i + kBlock, s.end)}});
  // Late rows see the most keys: the longest pieces go first, so that threads finish together.
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) {
    return a.rows.end - a.sequence->begin > b.rows.end - b.sequence->begin;
  });
  const std::vector<Task>& list = tasks;
  compute_pool().parallel_for(list.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) attend(spec, list[t], rows, qkv, out, log_sums, bf16);
  });
}

std::size_t packed_attention_floats(const AttentionSpec& spec, std::size_t rows) {
  return 2 * rows * spec.heads * spec.head_dim;
}

void packed_attention_backward(const AttentionSpec& spec, std::span<const PackedSequence> sequences,
                               std::size_t rows, const float* qkv, const float* out, const float* log_sums,
                               const float* dout, float* dqkv, float* memory, bool bf16) {
  const Layout at(spec);
  const Gradient g{qkv, out, log_sums, dout, dqkv, memory, memory + rows * at.out_width()};
  compute_pool().parallel_for(sequences.size() * spec.heads, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t)
      attend_backward(spec, sequences[t / spec.heads], t % spec.heads, rows, g, bf16);
  });
  // A key head serves several query heads.
  const std::size_t group = spec.heads / spec.kv_heads;
  compute_pool().parallel_for(rows, 32, [&](std::size_t begin, std::size_t end) {
    for (std::size_t row = begin; row < end; ++row)
      for (std::size_t kv = 0; kv < spec.kv_heads; ++kv) {
        float* dk = dqkv + at.k(row, kv);
        float* dv = dqkv + at.v(row, kv);
        std::copy_n(g.dk + at.out(row, kv * group), at.d, dk);
        std::copy_n(g.dv + at.out(row, kv * group), at.d, dv);
        for (std::size_t h = 1; h < group; ++h) {
          simd::add(dk, g.dk + at.out(row, kv * group + h), at.d);
          simd::add(dv, g.dv + at.out(row, kv * group + h), at.d);
        }
      }
  });
}

}  // namespace metal_candle
