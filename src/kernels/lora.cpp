#include "kernels/lora.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "kernels/scratch.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/lora.h"
#include "kernels/simd/lora_half.h"
#include "kernels/simd/transpose.h"

namespace metal_candle {
namespace {

// Waits for a thread that is about to arrive before others may have its time: some 10 us.
constexpr int kSpins = 10'000;

// Where row indices lie among the replaced ones.
std::pair<std::size_t, std::size_t> replaced_range(const LoraDelta& delta, std::size_t begin,
                                                   std::size_t end) {
  if (delta.replaced.empty()) return {begin, end};
  const auto from = std::ranges::lower_bound(delta.replaced, begin);
  const auto to = std::ranges::lower_bound(delta.replaced, end);
  return {static_cast<std::size_t>(from - delta.replaced.begin()),
          static_cast<std::size_t>(to - delta.replaced.begin())};
}

std::size_t row_of(const LoraDelta& delta, std::size_t index) {
  return delta.replaced.empty() ? index : delta.replaced[index];
}

// y += w · ((gain - 1) · base + gain · change), in place of y += change.
void add_with_gain(const float* base, const float* gain, float weight, std::size_t n, const float* change,
                   float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += weight * (gain[i] - 1) * base[i] + gain[i] * change[i];
}

void add_scaled(const float* x, float factor, std::size_t n, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

const std::byte* tile_of(const LoraDelta& delta, std::size_t column) {
  return delta.b + column * delta.rank * block_bytes(delta.type);
}

bool concerns(const LoraPart& part, std::size_t segment, std::size_t row, std::size_t rows) {
  return part.segment == segment && part.first_row < row + rows && row < part.first_row + part.rows;
}

bool is_f32(const LoraPart& part) { return part.delta->type == DType::f32; }

void scale(const LoraPart& part, float* t, std::size_t ranks) {
  const float factor = part.delta->scale * part.weight;
  for (std::size_t j = 0; j < ranks; ++j) t[j] *= factor;
}

// One thread's ranks of A.
struct Share {
  Share(const LoraDelta& delta, std::size_t index, unsigned shares)
      : type(delta.type),
        k(delta.k),
        first(delta.rank * index / shares),
        ranks(delta.rank * (index + 1) / shares - first),
        a(delta.a + first * k * block_bytes(type)) {}
  simd::LinesToCome begin() const { return simd::lora_shrink_begin(type, a, ranks, k); }

  DType type;
  std::size_t k, first, ranks;
  const std::byte* a;
};

bool needs_base(const LoraPart& part) { return !part.delta->gain.empty() || part.delta->rows; }

}  // namespace

void lora_pack_b(DType type, const std::byte* matrix, bool transposed, std::size_t rank, std::size_t n,
                 std::byte* b) {
  const std::size_t element = block_bytes(type);
  const std::size_t whole = transposed ? 0 : n / kLoraTile;
  (element == 2 ? simd::transpose_16 : simd::transpose_32)(matrix, kLoraTile, rank, b, whole);
  b += whole * kLoraTile * rank * element;
  for (std::size_t c = whole * kLoraTile; c < n; c += kLoraTile, b += rank * kLoraTile * element) {
    const std::size_t columns = std::min(kLoraTile, n - c);
    if (columns < kLoraTile) std::memset(b, 0, rank * kLoraTile * element);
    for (std::size_t j = 0; j < rank; ++j) {
      if (transposed) {
        std::memcpy(b + j * kLoraTile * element, matrix + (j * n + c) * element, columns * element);
        continue;
      }
      for (std::size_t i = 0; i < columns; ++i)
        std::memcpy(b + (j * kLoraTile + i) * element, matrix + ((c + i) * rank + j) * element, element);
    }
  }
}

std::vector<std::byte> lora_unpack_b(const LoraDelta& delta, bool transposed) {
  const std::size_t element = block_bytes(delta.type), n = delta.n, rank = delta.rank;
  std::vector<std::byte> out(n * rank * element);
  for (std::size_t c = 0; c < n; ++c)
    for (std::size_t j = 0; j < rank; ++j)
      std::memcpy(&out[(transposed ? j * n + c : c * rank + j) * element],
                  delta.b + lora_b_index(rank, j, c) * element, element);
  return out;
}

void lora_expand_all(const LoraDelta& delta, const float* t, float* y) {
  simd::lora_expand_tiles(delta.type, delta.b, delta.rank, t, delta.n, y);
}

void LoraShares::begin(std::size_t floats, unsigned threads) {
  used_ = simd::whole_lines(sizeof(Call) + floats * sizeof(float)) / sizeof(Line);
  if (used_ > per_thread_ || threads != threads_) {
    per_thread_ = std::max(used_, per_thread_);
    threads_ = threads;
    lines_.assign(per_thread_ * threads, Line());
    for (unsigned i = 0; i < threads; ++i) new (lines(i)) Call(0);
  }
  ++call_;  // in place of taking back what was published, which would fetch the others' lines
}

LoraShares::Call& LoraShares::published(std::size_t thread) {
  return *std::launder(reinterpret_cast<Call*>(lines(thread)));
}

float* LoraShares::values(std::size_t thread) {
  return reinterpret_cast<float*>(lines(thread)->bytes + sizeof(Call));
}

void LoraShares::publish(std::size_t thread) { published(thread).store(call_, std::memory_order_release); }

void LoraShares::wait_for(std::size_t thread) {
  for (int spin = 0; published(thread).load(std::memory_order_acquire) != call_; ++spin)
    if (spin > kSpins) std::this_thread::yield();
}

LoraEpilogue::LoraEpilogue(const LoraCall& call, const float* x, std::size_t k, float* memory,
                           std::size_t half_from)
    : call_(call),
      x_(x),
      k_(k),
      memory_(memory),
      needs_base_(std::ranges::any_of(call.parts, needs_base)),
      products_(simd::lora_half()),
      half_from_(products_ && !std::ranges::all_of(call.parts, is_f32) ? half_from : kNever) {}

std::size_t LoraEpilogue::floats(const LoraCall& call) {
  std::size_t sum = 0;
  for (const LoraPart& part : call.parts) sum += part.rows * part.reduced_stride();
  return sum;
}

bool LoraEpilogue::all_half(const LoraCall& call) {
  return simd::lora_half() && std::ranges::none_of(call.parts, [](const LoraPart& part) {
           return part.delta->rows || is_f32(part);
         });
}

bool LoraEpilogue::half(const LoraPart& part, std::size_t row) const {
  return row >= half_from_ && !is_f32(part);
}

// Rows that all multiply the same way. `halves`: of these rows, if they multiply 16 bits.
void LoraEpilogue::shrink_rows(const LoraPart& part, float* t, std::size_t row, std::size_t rows,
                               Rows halves) const {
  const LoraDelta& delta = *part.delta;
  if (rows == 0 || delta.rank == 0) return;
  const std::size_t stride = part.reduced_stride();
  t += (row - part.first_row) * stride;
  if (half(part, row))
    shrink_half(delta.type, delta.a, delta.rank, halves, rows, t + 1, stride);
  else
    simd::lora_shrink(delta.type, delta.a, delta.rank, k_, x_ + row * k_, k_, rows, t + 1, stride);
  for (std::size_t i = 0; i < rows; ++i) scale(part, t + i * stride + 1, delta.rank);
  if (half(part, row)) reduced_to_half(t, rows, delta.rank);
}

void LoraEpilogue::shrink(std::size_t row, std::size_t rows) const {
  const std::size_t half_begin = std::clamp(half_from_, row, row + rows);
  const Rows halves = half_rows(half_begin, row + rows - half_begin);
  float* t = memory_;
  for (const LoraPart& part : call_.parts) {
    const std::size_t begin = std::max(row, part.first_row);
    const std::size_t end = std::min(row + rows, part.first_row + part.rows);
    if (begin < end) {
      const std::size_t exact = std::clamp(half_from_, begin, end);
      shrink_rows(part, t, begin, exact - begin, {});
      if (exact < end) shrink_rows(part, t, exact, end - exact, halves.from(exact - half_begin));
    }
    t += part.rows * part.reduced_stride();
  }
}

void LoraEpilogue::prefetch_share(const LoraDelta& delta, std::size_t index, unsigned shares) {
  const simd::LinesToCome lines = Share(delta, index, shares).begin();
  for (std::size_t i = 0; i < simd::kLinesAhead / lines.rows; ++i)
    for (std::size_t j = 0; j < lines.rows; ++j) lines.prefetch(j, i);
}

void LoraEpilogue::shrink_share(std::size_t thread, LoraShares& shares, const std::byte* next) {
  const Rows halves = half_rows(0, half_from_ == 0 ? 1 : 0);
  float* t = memory_;
  float* published = shares.values(thread);
  for (std::size_t i = 0; i < call_.parts.size(); ++i) {
    const LoraPart& part = call_.parts[i];
    const Share share(*part.delta, thread, shares.threads());
    float* out = t + 1 + share.first;
    t += part.reduced_stride();
    if (share.ranks == 0) continue;
    if (half(part, 0)) {
      shrink_half(part.delta->type, share.a, share.ranks, halves, 1, out, 0);
    } else {
      const bool last = i + 1 == call_.parts.size();
      const simd::LinesToCome then =
          last ? simd::LinesToCome{next} : Share(*call_.parts[i + 1].delta, thread, shares.threads()).begin();
      simd::lora_shrink_one(part.delta->type, share.a, share.ranks, k_, x_, out, then);
    }
    scale(part, out, share.ranks);
    published = std::copy_n(out, share.ranks, published);
  }
  shares.publish(thread);
  shares_ = &shares;
  thread_ = thread;
  gathered_ = false;
}

// The other threads' shares, to where they belong.
void LoraEpilogue::gather() const {
  for (std::size_t thread = 0; thread < shares_->threads(); ++thread) {
    if (thread == thread_) continue;
    shares_->wait_for(thread);
    const float* published = shares_->values(thread);
    float* t = memory_;
    for (const LoraPart& part : call_.parts) {
      const Share share(*part.delta, thread, shares_->threads());
      std::copy_n(published, share.ranks, t + 1 + share.first);
      published += share.ranks;
      t += part.reduced_stride();
    }
  }
  gathered_ = true;
}

void LoraEpilogue::prefetch(std::size_t segment, std::size_t row, std::size_t rows, std::size_t column,
                            std::size_t columns) const {
  for (std::size_t i = 0; !gathered_ && i < shares_->threads(); ++i)
    if (i != thread_) shares_->prefetch(i);
  for (const LoraPart& part : call_.parts) {
    if (!concerns(part, segment, row, rows)) continue;
    const LoraDelta& delta = *part.delta;
    const std::size_t lines = lora_b_elements(delta.rank, columns) * block_bytes(delta.type) / 64;
    const simd::LinesToCome b{tile_of(delta, column)};
    for (std::size_t i = 0; i < std::min(lines, simd::kLinesAhead); ++i) b.prefetch(0, i);
  }
}

void LoraEpilogue::apply(std::size_t segment, std::size_t row, std::size_t rows, std::size_t column,
                         std::size_t columns, float* block, std::size_t stride) const {
  if (!gathered_) gather();
  const float* base = nullptr;  // x·Wᵀ before any part adds to it, where one asks for it
  if (needs_base_) {
    thread_local Scratch base_memory;
    const std::size_t floats = (rows - 1) * stride + columns;
    float* copy = base_memory.get<float>(floats);
    std::copy_n(block, floats, copy);
    base = copy;
  }
  const float* t = memory_;
  for (const LoraPart& part : call_.parts) {
    const LoraDelta& delta = *part.delta;
    const float* reduced = t;
    t += part.rows * part.reduced_stride();
    if (!concerns(part, segment, row, rows)) continue;
    const std::size_t begin = std::max(row, part.first_row);
    const std::size_t count = std::min(row + rows, part.first_row + part.rows) - begin;
    reduced += (begin - part.first_row) * part.reduced_stride();
    float* y = block + (begin - row) * stride;
    const float* y0 = base ? base + (begin - row) * stride : nullptr;
    if (delta.rows) replace(part, begin, count, column, columns, y0, y, stride);
    if (delta.rank == 0) continue;
    float* target = y;
    if (!delta.gain.empty()) {
      thread_local Scratch change_memory;
      const std::size_t floats = (count - 1) * stride + lora_b_elements(1, columns);  // whole tiles
      target = change_memory.get<float>(floats);
      std::fill_n(target, floats, 0.0f);
    }
    const std::size_t exact = std::clamp(half_from_, begin, begin + count) - begin;
    expand(part, reduced, begin, exact, column, columns, target, stride);
    expand(part, reduced + exact * part.reduced_stride(), begin + exact, count - exact, column, columns,
           target + exact * stride, stride);
    for (std::size_t i = 0; !delta.gain.empty() && i < count; ++i)
      add_with_gain(y0 + i * stride, &delta.gain[column], part.weight, columns, target + i * stride,
                    y + i * stride);
    for (std::size_t i = 0; !delta.bias.empty() && i < count; ++i)
      add_scaled(&delta.bias[column], delta.scale * part.weight, columns, y + i * stride);
  }
}

// y [rows][stride] += t · Bᵀ for rows that all multiply the same way; those of t begin at `t`.
void LoraEpilogue::expand(const LoraPart& part, const float* t, std::size_t row, std::size_t rows,
                          std::size_t column, std::size_t columns, float* y, std::size_t stride) const {
  if (rows == 0) return;
  const LoraDelta& delta = *part.delta;
  const std::size_t t_stride = part.reduced_stride();
  const std::byte* b = tile_of(delta, column);
  if (half(part, row)) return expand_half(delta, t, rows, column, columns, y, stride);
  if (rows == 1) return simd::lora_expand_tiles(delta.type, b, delta.rank, t + 1, columns, y);
  simd::lora_expand(delta.type, b, kLoraTile, delta.rank, t + 1, t_stride, rows, columns, y, stride);
}

void LoraEpilogue::replace(const LoraPart& part, std::size_t row, std::size_t rows, std::size_t column,
                           std::size_t columns, const float* base, float* block, std::size_t stride) const {
  const LoraDelta& delta = *part.delta;
  const auto [first, last] = replaced_range(delta, column, column + columns);
  thread_local Scratch memory;
  float* product = memory.get<float>(columns);
  for (std::size_t i = 0; i < rows; ++i) {
    simd::lora_shrink(delta.type, delta.rows + first * k_ * block_bytes(delta.type), last - first, k_,
                      x_ + (row + i) * k_, k_, 1, product, columns);
    for (std::size_t j = first; j < last; ++j) {
      const std::size_t at = i * stride + row_of(delta, j) - column;
      block[at] += part.weight * (product[j - first] - base[at]);
    }
  }
}

void apply_to_embedding(const LoraCall& call, std::size_t row, std::size_t id, std::size_t n, float* out) {
  thread_local Scratch memory, base_memory;
  float* base = base_memory.get<float>(n);
  std::copy_n(out, n, base);
  for (const LoraPart& part : call.parts) {
    if (row < part.first_row || row >= part.first_row + part.rows) continue;
    const LoraDelta& delta = *part.delta;
    float* work = memory.get<float>(std::max(n, delta.rank));
    const auto [first, last] = replaced_range(delta, id, id + 1);
    if (delta.rows && first < last) {
      simd::dequantize(delta.type, delta.rows + first * n * block_bytes(delta.type), work, n);
      for (std::size_t i = 0; i < n; ++i) out[i] += part.weight * (work[i] - base[i]);
    }
    if (delta.rank == 0) continue;
    simd::dequantize(delta.type, delta.a + id * delta.rank * block_bytes(delta.type), work, delta.rank);
    for (std::size_t j = 0; j < delta.rank; ++j) work[j] *= delta.scale * part.weight;
    lora_expand_all(delta, work, out);
  }
}

}  // namespace metal_candle
