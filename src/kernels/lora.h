// What adapters add to the output of a linear layer or an embedding: the epilogue of kernels/linear and
// kernels/embedding, the only place where an adapter's arithmetic is done. Raw memory, no MLX; where the
// matrices come from is the business of adapters/.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "kernels/simd/inline.h"

namespace metal_candle {
namespace simd {
struct LoraHalf;
}

/// Outputs in a tile of LoraDelta::b: those of a packed weight's tile.
inline constexpr std::size_t kLoraTile = 32;

/// A change of one stored matrix W [n, k]. Views only. With weight w it adds to y0 = x·Wᵀ:
///   LoRA  w · scale · (x·Aᵀ·Bᵀ + bias)
///   DoRA  w · ((gain - 1) · y0 + gain · scale · x·Aᵀ·Bᵀ), gain = magnitude / |W + scale · B·A| by rows
///   rows  w · (x·Fᵀ - y0) in the outputs listed (all, if none are), F being stored instead of W's rows
struct LoraDelta {
  DType type = DType::f32;       ///< of a, b and rows: f32, f16 or bf16
  std::size_t n = 0;             ///< outputs of W
  std::size_t k = 0;             ///< inputs of W
  std::size_t rank = 0;          ///< 0: no A and B
  const std::byte* a = nullptr;  ///< [rank, k]; of an embedding [vocabulary, rank]
  /// Bᵀ by tiles of kLoraTile outputs, as a linear layer multiplies them: [tiles, rank, kLoraTile], zeros
  /// past n. A tile is read in one go.
  const std::byte* b = nullptr;
  float scale = 1;
  std::span<const float> bias;              ///< [n] or empty
  std::span<const float> gain;              ///< [n] or empty
  const std::byte* rows = nullptr;          ///< F: [n or replaced.size(), k]
  std::span<const std::uint32_t> replaced;  ///< ascending; empty: every row
};

/// Elements of LoraDelta::b.
constexpr std::size_t lora_b_elements(std::size_t rank, std::size_t n) {
  return (n + kLoraTile - 1) / kLoraTile * kLoraTile * rank;
}
/// Where element (rank j, output c) lies among them.
constexpr std::size_t lora_b_index(std::size_t rank, std::size_t j, std::size_t c) {
  return (c / kLoraTile * rank + j) * kLoraTile + c % kLoraTile;
}
/// B [n, rank], or Bᵀ [rank, n], as stored elements of `type`, to LoraDelta::b and back.
void lora_pack_b(DType type, const std::byte* matrix, bool transposed, std::size_t rank, std::size_t n,
                 std::byte* b);
std::vector<std::byte> lora_unpack_b(const LoraDelta& delta, bool transposed);
/// y[n] += t[rank] · Bᵀ.
void lora_expand_all(const LoraDelta& delta, const float* t, float* y);

/// One delta for consecutive rows of x.
struct LoraPart {
  std::size_t first_row = 0;
  std::size_t rows = 0;
  std::size_t segment = 0;  ///< which matrix of the stack
  float weight = 1;
  const LoraDelta* delta = nullptr;

  /// Floats of a row of x·Aᵀ: one and then the ranks, or a half row (simd/linear_half.h).
  std::size_t reduced_stride() const { return 1 + delta->rank; }
};

/// All that adapters change in one call of a layer. Immutable; what the deltas view must outlive the call.
struct LoraCall {
  std::vector<LoraPart> parts;
};

/// What the threads that share x·Aᵀ of one row tell each other, each in cache lines of its own: writing to
/// another's, or counting who is done, would stop a thread for as long as a line travels.
class LoraShares {
 public:
  /// Room for the results of a call, `floats`, of which none is there yet. Before the threads start.
  void begin(std::size_t floats, unsigned threads);

  unsigned threads() const { return threads_; }
  /// A thread's own results, in order; those of others once they are published.
  float* values(std::size_t thread);
  void publish(std::size_t thread);
  MC_INLINE void prefetch(std::size_t thread) {
    for (std::size_t i = 0; i < used_; ++i) __builtin_prefetch(lines(thread) + i);
  }
  void wait_for(std::size_t thread);

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  using Call = std::atomic<std::uint64_t>;
  Line* lines(std::size_t thread) { return &lines_[thread * per_thread_]; }
  Call& published(std::size_t thread);  // begins a thread's lines: the last call of which they hold results

  std::vector<Line> lines_;
  std::size_t per_thread_ = 0, used_ = 0;  // lines
  unsigned threads_ = 0;
  std::uint64_t call_ = 0;
};

/// The work of one call, on memory of the caller. Threads may share it; none writes what another reads
/// before the barrier that the caller puts between shrink() and apply(). With shrink_share() each has its
/// own.
class LoraEpilogue {
 public:
  /// Working memory of a call, in floats; with shrink_share() of each thread.
  static std::size_t floats(const LoraCall& call);

  /// Rows from here on multiply 16 bits where matrices have so many and the target can: those of prompts
  /// whose layer does not multiply f32 either.
  static constexpr std::size_t kNever = static_cast<std::size_t>(-1);

  /// x: f32 [rows, k], filled before shrink().
  LoraEpilogue(const LoraCall& call, const float* x, std::size_t k, float* memory,
               std::size_t half_from = kNever);

  /// Half rows of x (simd/linear_half.h) that someone has made already, `stride` bytes apart, in place of own
  /// ones.
  void use_halves(const std::byte* rows, std::size_t stride) { halves_ = {rows, stride}; }
  /// Rows of x as int8 weights multiply them (simd/quantize_row.h), `stride` bytes apart: half rows are made
  /// of these, and x is not read for them.
  void use_quantized(const std::byte* rows, std::size_t stride) { quantized_ = {rows, stride}; }
  /// Whether all of a call's matrices multiply half rows, where rows may.
  static bool all_half(const LoraCall& call);

  /// x·Aᵀ for rows [row, row + rows) of x.
  void shrink(std::size_t row, std::size_t rows) const;
  /// The same for the only row, this thread's share of each rank; apply() waits for the others': by then the
  /// caller has multiplied some tiles. `next`: what the caller reads afterwards.
  void shrink_share(std::size_t thread, LoraShares& shares, const std::byte* next);
  /// Prefetches what shrink_share() of a call begins with whose first delta is this.
  static void prefetch_share(const LoraDelta& delta, std::size_t index, unsigned shares);

  /// Prefetches what apply() with these arguments reads first: the others' shares, the beginning of B.
  void prefetch(std::size_t segment, std::size_t row, std::size_t rows, std::size_t column,
                std::size_t columns) const;

  /// Adds to block [rows][stride], which holds x·Wᵀ of rows [row, row + rows) and outputs
  /// [column, column + columns) of a matrix of the stack. `column` is a multiple of kLoraTile, and so many
  /// are the columns at most, but for one row, which takes any number; the block has room for whole tiles.
  void apply(std::size_t segment, std::size_t row, std::size_t rows, std::size_t column, std::size_t columns,
             float* block, std::size_t stride) const;

 private:
  struct Rows {
    const std::byte* data = nullptr;
    std::size_t stride = 0;  // bytes
    Rows from(std::size_t row) const { return {data + row * stride, stride}; }
  };

  void gather() const;
  bool half(const LoraPart& part, std::size_t row) const;
  void shrink_rows(const LoraPart& part, float* t, std::size_t row, std::size_t rows, Rows halves) const;
  Rows half_rows(std::size_t row, std::size_t rows) const;
  void shrink_half(DType type, const std::byte* a, std::size_t ranks, Rows x, std::size_t rows, float* out,
                   std::size_t stride) const;
  void reduced_to_half(float* t, std::size_t rows, std::size_t rank) const;
  void expand_half(const LoraDelta& delta, const float* t, std::size_t rows, std::size_t column,
                   std::size_t columns, float* y, std::size_t stride) const;
  void expand(const LoraPart& part, const float* t, std::size_t row, std::size_t rows, std::size_t column,
              std::size_t columns, float* y, std::size_t stride) const;
  void replace(const LoraPart& part, std::size_t row, std::size_t rows, std::size_t column,
               std::size_t columns, const float* base, float* block, std::size_t stride) const;

  const LoraCall& call_;
  const float* x_;
  std::size_t k_;
  float* memory_;
  bool needs_base_;
  const simd::LoraHalf* products_;  // of 16 bits, if the target has such
  std::size_t half_from_;
  Rows halves_, quantized_;
  LoraShares* shares_ = nullptr;  // of shrink_share()
  std::size_t thread_ = 0;
  mutable bool gathered_ = true;
};

/// The same for row `row` of an embedding: `out` [n] holds the table's row of `id`.
void apply_to_embedding(const LoraCall& call, std::size_t row, std::size_t id, std::size_t n, float* out);

}  // namespace metal_candle
