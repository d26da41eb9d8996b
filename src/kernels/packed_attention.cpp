#include "kernels/packed_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/compute_pool.h"
#include "kernels/gemm_pack.h"
#include "kernels/scratch.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/softmax.h"
#include "kernels/simd/train_ops.h"

namespace metal_candle {
namespace {

// Rows and keys of one block: whole tiles and panels of every kernel, and L2 holds what is made of a block.
constexpr std::size_t kQueries = 96, kKeys = 128;

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

/// Blocks of kKeys keys from each sequence's start on, with every key head.
struct KeyBlocks {
  std::vector<const PackedSequence*> sequence;  ///< of each block
  std::vector<std::size_t> begin;               ///< its first key
  std::vector<std::size_t> first;               ///< first block of each sequence

  explicit KeyBlocks(std::span<const PackedSequence> sequences) {
    for (const PackedSequence& s : sequences) {
      first.push_back(begin.size());
      for (std::size_t j = s.begin; j < s.end; j += kKeys) {
        sequence.push_back(&s);
        begin.push_back(j);
      }
    }
  }
  Block keys(std::size_t block) const {
    return {begin[block], std::min(begin[block] + kKeys, sequence[block]->end)};
  }
};

// Some [count, d] matrices as operand B, packed once for all rows that multiply them: `transposed` [d,
// count], for scores, or as they are [count, d].
class Operands {
 public:
  Operands(const simd::GemmKernel& kernel, std::size_t d, bool transposed, std::size_t most)
      : kernel_(kernel),
        d_(d),
        transposed_(transposed),
        panel_bytes_(kernel.b_bytes(transposed ? d : most)),
        bytes_(ceil_div(transposed ? most : d, kernel.columns) * panel_bytes_) {}
  std::size_t bytes() const { return bytes_; }  ///< of one matrix
  void place(std::byte* data) { data_ = data; }

  void pack(std::size_t i, const float* rows, std::size_t stride, std::size_t count) const {
    const FloatRows source(rows, stride);
    const std::size_t k = transposed_ ? d_ : count, n = transposed_ ? count : d_;
    const GemmTerm term{{}, &source, transposed_, k, 0, n};
    for (std::size_t j = 0; j < n; j += kernel_.columns)
      pack_panel(kernel_, term, 0, k, j, data_ + i * bytes_ + j / kernel_.columns * panel_bytes_);
  }
  /// c (+)= a · B; of a matrix as it is the first `depth` rows. Columns of c are whole panels if transposed.
  void multiply(std::size_t i, const std::byte* a, std::size_t rows, std::size_t count, float* c,
                std::size_t c_stride, bool accumulate) const {
    const std::size_t n = transposed_ ? ceil_div(count, kernel_.columns) * kernel_.columns : d_;
    multiply_packed(kernel_, a, rows, data_ + i * bytes_, panel_bytes_, n, transposed_ ? d_ : count, c,
                    c_stride, accumulate);
  }

 private:
  const simd::GemmKernel& kernel_;
  std::size_t d_;
  bool transposed_;
  std::size_t panel_bytes_, bytes_;
  std::byte* data_ = nullptr;
};

// Bytes of up to `rows` rows as operand A.
std::size_t tiles_bytes(const simd::GemmKernel& kernel, std::size_t rows, std::size_t depth) {
  return ceil_div(rows, kernel.rows) * kernel.a_bytes(depth);
}

// Scores outside [from, to) of a row's keys become zero.
void clear_outside(float* row, Block seen, Block keys) {
  std::fill(row, row + (seen.begin - keys.begin), 0.0f);
  std::fill(row + (seen.end - keys.begin), row + keys.size(), 0.0f);
}

struct Task {
  std::size_t sequence, head;
  Block rows;
};

// The operands of keys and values that all tasks share.
struct SharedKeys {
  const simd::GemmKernel& kernel;
  KeyBlocks blocks;
  Operands keys_transposed, values_transposed, keys, values;

  SharedKeys(const simd::GemmKernel& k, std::size_t d, std::span<const PackedSequence> sequences)
      : kernel(k),
        blocks(sequences),
        keys_transposed(k, d, true, kKeys),
        values_transposed(k, d, true, kKeys),
        keys(k, d, false, kKeys),
        values(k, d, false, kKeys) {}

  /// Packs those that are asked for, on the compute pool.
  void pack(const Layout& at, const float* qkv, Scratch& memory, bool backward) {
    const std::size_t count = blocks.begin.size() * at.kv_heads;
    const auto each = [&](const auto& f) {
      f(keys_transposed, false);
      if (!backward) f(values, true);
      if (backward) f(keys, false), f(values_transposed, true);
    };
    std::size_t bytes = 0;
    each([&](Operands& o, bool) { bytes += count * o.bytes(); });
    std::byte* place = memory.get<std::byte>(bytes);
    each([&](Operands& o, bool) {
      o.place(place);
      place += count * o.bytes();
    });
    compute_pool().parallel_for(count, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const Block own = blocks.keys(i / at.kv_heads);
        const std::size_t kv = i % at.kv_heads;
        each([&](Operands& o, bool of_values) {
          o.pack(i, qkv + (of_values ? at.v(own.begin, kv) : at.k(own.begin, kv)), at.width(), own.size());
        });
      }
    });
  }
};

void attend(const AttentionSpec& spec, const SharedKeys& shared, const PackedSequence& s, const Task& task,
            std::size_t rows, const float* qkv, float* out, float* log_sums) {
  thread_local Scratch memory, tile_memory;
  const Layout at(spec);
  const simd::GemmKernel& kernel = shared.kernel;
  const std::size_t kv = task.head / (at.heads / at.kv_heads), d = at.d, count = task.rows.size();
  float* scores = memory.get<float>(kQueries * kKeys);
  const std::size_t q_bytes = tiles_bytes(kernel, kQueries, d);
  std::byte* q = tile_memory.get<std::byte>(q_bytes + tiles_bytes(kernel, kQueries, kKeys));
  std::byte* p = q + q_bytes;
  pack_rows(kernel, {qkv + at.q(task.rows.begin, task.head), at.width(), 1}, 0, count, 0, d, q);
  float largest[kQueries], sums[kQueries];
  std::fill_n(largest, kQueries, -std::numeric_limits<float>::infinity());
  std::fill_n(sums, kQueries, 0.0f);
  for (std::size_t i = task.rows.begin; i < task.rows.end; ++i)
    std::fill_n(out + at.out(i, task.head), d, 0.0f);
  const std::size_t skipped = (first_key(spec, s, task.rows.begin) - s.begin) / kKeys;
  std::size_t block = shared.blocks.first[task.sequence] + skipped;
  for (std::size_t j = s.begin + skipped * kKeys; j < task.rows.end; j += kKeys, ++block) {
    const Block keys{j, std::min(j + kKeys, task.rows.end)};
    const std::size_t operand = block * at.kv_heads + kv;
    shared.keys_transposed.multiply(operand, q, count, keys.size(), scores, kKeys, false);
    for (std::size_t i = 0; i < count; ++i) {
      float* row = scores + i * kKeys;
      const Block seen = visible(spec, s, task.rows.begin + i, keys);
      clear_outside(row, seen, keys);
      if (seen.size() == 0) continue;
      float* from = row + (seen.begin - keys.begin);
      const float top = std::max(largest[i], spec.scale * simd::row_max(from, seen.size()));
      simd::exp_scaled(from, seen.size(), spec.scale, top, 1, from);
      const float shrink = std::exp(largest[i] - top);
      sums[i] = sums[i] * shrink + simd::sum_of(from, seen.size());
      if (shrink != 1) simd::scale(out + at.out(task.rows.begin + i, task.head), shrink, d);
      largest[i] = top;
    }
    pack_rows(kernel, {scores, kKeys, 1}, 0, count, 0, keys.size(), p);
    shared.values.multiply(operand, p, count, keys.size(), out + at.out(task.rows.begin, task.head),
                           at.out_width(), true);
  }
  for (std::size_t i = 0; i < count; ++i) {
    simd::scale(out + at.out(task.rows.begin + i, task.head), 1 / sums[i], d);
    log_sums[task.head * rows + task.rows.begin + i] = largest[i] + std::log(sums[i]);
  }
}

// What one head's gradient reads and writes; dk and dv are the head's own.
struct Gradient {
  const float *qkv, *out, *log_sums, *dout;
  float *dqkv, *dk, *dv;  // dk, dv: [rows, heads * d]
};

// p becomes the probabilities of a block, ds (of which it holds dout · vᵀ) the gradient of its scores.
void softmax_gradient(const AttentionSpec& spec, const PackedSequence& s, Block queries, Block keys,
                      const float* log_sums, const float* delta, float* p, float* ds) {
  for (std::size_t r = 0; r < queries.size(); ++r, p += kKeys, ds += kKeys) {
    const Block seen = visible(spec, s, queries.begin + r, keys);
    clear_outside(p, seen, keys);
    clear_outside(ds, seen, keys);
    const std::size_t before = seen.begin - keys.begin;
    simd::exp_scaled(p + before, seen.size(), spec.scale, log_sums[queries.begin + r], 1, p + before);
    simd::softmax_backward(p + before, ds + before, delta[queries.begin + r - s.begin], spec.scale,
                           seen.size(), ds + before);
  }
}

void attend_backward(const AttentionSpec& spec, const SharedKeys& shared, std::size_t sequence,
                     const PackedSequence& s, std::size_t head, std::size_t rows, const Gradient& g) {
  thread_local Scratch memory, tile_memory;
  const Layout at(spec);
  const simd::GemmKernel& kernel = shared.kernel;
  const std::size_t kv = head / (at.heads / at.kv_heads), d = at.d, width = at.width(), wide = at.out_width();
  float* p = memory.get<float>(2 * kQueries * kKeys + (s.end - s.begin));
  float* ds = p + kQueries * kKeys;
  float* delta = ds + kQueries * kKeys;
  Operands own(kernel, d, false, kQueries);  // queries and the gradient of their results
  const std::size_t tiles = std::max({tiles_bytes(kernel, kQueries, d), tiles_bytes(kernel, kQueries, kKeys),
                                      tiles_bytes(kernel, kKeys, kQueries)});
  std::byte* q = tile_memory.get<std::byte>(3 * tiles + 2 * own.bytes());
  std::byte *dout = q + tiles, *scratch = dout + tiles;
  own.place(scratch + tiles);
  for (std::size_t i = s.begin; i < s.end; ++i) {
    delta[i - s.begin] = simd::dot(g.out + at.out(i, head), g.dout + at.out(i, head), d);
    std::fill_n(g.dqkv + at.q(i, head), d, 0.0f);
    std::fill_n(g.dk + at.out(i, head), d, 0.0f);
    std::fill_n(g.dv + at.out(i, head), d, 0.0f);
  }
  for (std::size_t i = s.begin; i < s.end; i += kQueries) {
    const Block queries{i, std::min(i + kQueries, s.end)};
    const std::size_t count = queries.size();
    pack_rows(kernel, {g.qkv + at.q(i, head), width, 1}, 0, count, 0, d, q);
    pack_rows(kernel, {g.dout + at.out(i, head), wide, 1}, 0, count, 0, d, dout);
    own.pack(0, g.qkv + at.q(i, head), width, count);
    own.pack(1, g.dout + at.out(i, head), wide, count);
    const std::size_t skipped = (first_key(spec, s, i) - s.begin) / kKeys;
    std::size_t block = shared.blocks.first[sequence] + skipped;
    for (std::size_t j = s.begin + skipped * kKeys; j < queries.end; j += kKeys, ++block) {
      const Block keys{j, std::min(j + kKeys, queries.end)};
      const std::size_t operand = block * at.kv_heads + kv;
      shared.keys_transposed.multiply(operand, q, count, keys.size(), p, kKeys, false);
      shared.values_transposed.multiply(operand, dout, count, keys.size(), ds, kKeys, false);
      softmax_gradient(spec, s, queries, keys, g.log_sums + head * rows, delta, p, ds);
      pack_rows(kernel, {p, 1, kKeys}, 0, keys.size(), 0, count, scratch);
      own.multiply(1, scratch, keys.size(), count, g.dv + at.out(j, head), wide, true);
      pack_rows(kernel, {ds, 1, kKeys}, 0, keys.size(), 0, count, scratch);
      own.multiply(0, scratch, keys.size(), count, g.dk + at.out(j, head), wide, true);
      pack_rows(kernel, {ds, kKeys, 1}, 0, count, 0, keys.size(), scratch);
      shared.keys.multiply(operand, scratch, count, keys.size(), g.dqkv + at.q(i, head), width, true);
    }
  }
}

}  // namespace

void packed_attention(const AttentionSpec& spec, std::span<const PackedSequence> sequences, std::size_t rows,
                      const float* qkv, float* out, float* log_sums, bool bf16) {
  thread_local std::vector<Task> tasks;
  tasks.clear();
  for (std::size_t s = 0; s < sequences.size(); ++s)
    for (std::size_t i = sequences[s].begin; i < sequences[s].end; i += kQueries)
      for (std::size_t head = 0; head < spec.heads; ++head)
        tasks.push_back({s, head, {i, std::min(i + kQueries, sequences[s].end)}});
  // Late rows see the most keys: the longest pieces go first, so that threads finish together.
  std::stable_sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) {
    return a.rows.end - sequences[a.sequence].begin > b.rows.end - sequences[b.sequence].begin;
  });
  thread_local Scratch shared_memory;
  SharedKeys shared(bf16 ? simd::gemm_half() : simd::gemm_f32(), spec.head_dim, sequences);
  shared.pack(Layout(spec), qkv, shared_memory, false);
  const std::vector<Task>& list = tasks;
  compute_pool().parallel_for(list.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t)
      attend(spec, shared, sequences[list[t].sequence], list[t], rows, qkv, out, log_sums);
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
  thread_local Scratch shared_memory;
  SharedKeys shared(bf16 ? simd::gemm_half() : simd::gemm_f32(), spec.head_dim, sequences);
  shared.pack(at, qkv, shared_memory, true);
  compute_pool().parallel_for(sequences.size() * spec.heads, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const std::size_t s = t / spec.heads;
      attend_backward(spec, shared, s, sequences[s], t % spec.heads, rows, g);
    }
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
