#include "kernels/attention.h"

#include <algorithm>
#include <atomic>
#include <string>

#include "kernels/compute_pool.h"
#include "kernels/cpu_primitive.h"
#include "kernels/scratch.h"
#include "kernels/simd/attention.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/rope.h"

namespace metal_candle {
namespace {

namespace mx = mlx::core;
using Job = AttentionCall;

constexpr std::size_t kQueryRows = 32;      // rows of one prompt task
constexpr std::size_t kSplitKeys = 256;     // keys of one decoding task
constexpr std::size_t kSerialWork = 32768;  // multiply-adds below which waking other threads costs more

simd::AttentionParams params(const AttentionSpec& spec) {
  return {.head_dim = spec.head_dim,
          .group = spec.heads / spec.kv_heads,
          .scale = spec.scale,
          .window = spec.window};
}

// A piece of the second phase: some rows of a sequence, or some keys of its one row, for one kv head.
struct Task {
  const AttentionSequence* sequence;
  std::size_t kv_head;
  std::size_t row, rows;   // within the sequence
  std::size_t begin, end;  // keys, when split
  float* part;             // where a split task leaves its partial sums; null: not split
};

// The heads of one decoding row whose keys were split.
struct Merge {
  std::size_t row;
  const float* parts;  // [parts][heads][head_dim + 2]
  std::size_t count;
};

// Phase 1, any thread for any stretch: rotated queries go to `q`, rotated keys and values to the cache. A
// stretch is rows [index, index + rows) of the sequence, whose positions lie in one block of the cache.
void rotate_and_store(const Job& job, const AttentionSequence& sequence, std::size_t index, std::size_t rows,
                      float* q) {
  const AttentionSpec& spec = job.spec;
  const std::size_t d = spec.head_dim, row = sequence.first_row + index, width = job.qkv_width();
  const float* in = job.qkv + row * width;
  const auto rotated = [&](std::size_t r, std::size_t head, const std::vector<float>& norm, float* to) {
    const float* from = in + r * width + head * d;
    const float* cos = job.batch.cos.data() + (row + r) * (d / 2);
    const float* sin = job.batch.sin.data() + (row + r) * (d / 2);
    if (!norm.empty()) {
      simd::rms_norm(from, norm.data(), spec.norm_eps, d, to);
      from = to;
    }
    simd::rope_neox(from, d, cos, sin, to);
  };
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t h = 0; h < spec.heads; ++h)
      rotated(r, h, spec.q_norm, q + (row + r) * job.out_width() + h * d);
  alignas(64) float keys[simd::kKvBlock * simd::kMaxHeadDim];
  const std::size_t position = sequence.position + index;
  for (std::size_t h = 0; h < spec.kv_heads; ++h) {
    for (std::size_t r = 0; r < rows; ++r) rotated(r, spec.heads + h, spec.k_norm, keys + r * d);
    simd::store_keys(sequence.cache.type, d, keys, d, rows, position, sequence.cache.keys(job.layer, h));
    simd::store_values(sequence.cache.type, d, in + (spec.heads + spec.kv_heads + h) * d, width, rows,
                       position, sequence.cache.values(job.layer, h));
  }
}

// All of a sequence's rows; of `threads` that share them those of this one.
void rotate_and_store_share(const Job& job, const AttentionSequence& s, unsigned thread, unsigned threads,
                            float* q) {
  std::size_t turn = s.first_row;  // lone rows of many sequences go to all threads
  for (std::size_t i = 0, rows; i < s.rows; i += rows, ++turn) {
    rows = std::min(s.rows - i, simd::kKvBlock - (s.position + i) % simd::kKvBlock);
    if (turn % threads == thread) rotate_and_store(job, s, i, rows, q);
  }
}

// Phase 2.
void attend(const Job& job, const Task& task, const float* q) {
  const std::size_t d = job.spec.head_dim, row = task.sequence->first_row + task.row;
  const std::size_t offset = row * job.out_width() + task.kv_head * job.group() * d;
  const KvView& cache = task.sequence->cache;
  const simd::KvHead kv{cache.type, cache.keys(job.layer, task.kv_head),
                        cache.values(job.layer, task.kv_head)};
  const simd::HeadRows<const float> queries{q + offset, job.out_width(), d};
  const std::size_t position = task.sequence->position + task.row;
  if (task.part)
    simd::attend_part(params(job.spec), kv, queries, position, task.begin, task.end, task.part);
  else
    simd::attend(params(job.spec), kv, queries, task.rows, position, position + task.rows,
                 {job.out + offset, job.out_width(), d}, task.sequence->exact);
}

// Phase 3: one head of a split row.
void merge(const Job& job, const Merge& m, std::size_t head) {
  const std::size_t d = job.spec.head_dim;
  simd::merge_parts(m.parts + head * (d + 2), job.spec.heads * (d + 2), m.count, d,
                    job.out + m.row * job.out_width() + head * d);
}

// How many key ranges a sequence's rows are cut into: only lone decoding rows are split, and only over long
// caches.
std::size_t key_parts(const Job& job, const AttentionSequence& s, unsigned threads) {
  if (s.rows != 1 || threads == 1 || !s.exact) return 1;
  std::size_t visible = s.position + 1;
  if (job.spec.window) visible = std::min(visible, job.spec.window);
  // Enough parts that (kv heads x parts) divides evenly among threads, none shorter than kSplitKeys.
  return std::clamp<std::size_t>(visible / kSplitKeys, 1, 2 * threads);
}

// All pieces of work of a call, in memory that outlives it only as capacity.
struct Plan {
  std::vector<Task> tasks;
  std::vector<Merge> merges;

  void build(const Job& job, unsigned threads, Scratch& memory) {
    tasks.clear();
    merges.clear();
    const std::size_t part_floats = simd::attention_part_floats(job.spec.head_dim, job.spec.heads);
    std::size_t floats = 0;
    for (const AttentionSequence& s : job.batch.sequences)
      if (const std::size_t n = key_parts(job, s, threads); n > 1) floats += n * part_floats;
    float* part = memory.get<float>(floats);
    for (const AttentionSequence& s : job.batch.sequences) {
      if (const std::size_t n = key_parts(job, s, threads); n > 1) {
        split(job, s, n, part);
        part += n * part_floats;
        continue;
      }
      for (std::size_t row = 0; row < s.rows; row += kQueryRows)
        for (std::size_t h = 0; h < job.spec.kv_heads; ++h)
          tasks.push_back({&s, h, row, std::min(kQueryRows, s.rows - row), 0, 0, nullptr});
    }
    // Late rows see the most keys: the longest pieces go first, so that threads finish together.
    std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) {
      return a.sequence->position + a.row > b.sequence->position + b.row;
    });
  }

 private:
  void split(const Job& job, const AttentionSequence& s, std::size_t n, float* part) {
    const std::size_t d = job.spec.head_dim, length = s.position + 1;
    const std::size_t start = job.spec.window && job.spec.window < length ? length - job.spec.window : 0;
    merges.push_back({s.first_row, part, n});
    for (std::size_t p = 0; p < n; ++p)
      for (std::size_t h = 0; h < job.spec.kv_heads; ++h)
        tasks.push_back({&s, h, 0, 1, start + (length - start) * p / n,
                         start + (length - start) * (p + 1) / n,
                         part + (p * job.spec.heads + h * job.group()) * (d + 2)});
  }
};

std::size_t work(const Job& job) {
  std::size_t sum = 0;
  for (const AttentionSequence& s : job.batch.sequences)
    sum += s.rows * (s.position + s.rows) * job.out_width();
  return sum;
}

class AttentionOp final : public CpuPrimitive {
 public:
  AttentionOp(mx::Stream stream, std::shared_ptr<const AttentionSpec> spec,
              std::shared_ptr<const AttentionBatch> batch, std::size_t layer)
      : CpuPrimitive(stream), spec_(std::move(spec)), batch_(std::move(batch)), layer_(layer) {}
  const char* name() const override { return "metal_candle::attention"; }
  bool is_equivalent(const mx::Primitive&) const override { return false; }  // it writes the cache

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    float* out = allocate<float>(outputs[0]);
    const auto rows = static_cast<std::size_t>(inputs[0].shape(0));
    dispatch(inputs, outputs,
             [spec = spec_, batch = batch_, layer = layer_, qkv = read<float>(inputs[0]), out, rows] {
               run_attention({*spec, *batch, layer, qkv, out, rows});
             });
  }

 private:
  std::shared_ptr<const AttentionSpec> spec_;
  std::shared_ptr<const AttentionBatch> batch_;
  std::size_t layer_;
};

void check(bool ok, const std::string& what) {
  if (!ok) throw Error(ErrorCode::invalid_argument, "[attention] " + what);
}

}  // namespace

void run_attention(const AttentionCall& job) {
  thread_local Scratch queries, parts;
  thread_local Plan plan;
  ThreadPool& pool = compute_pool();
  float* q = queries.get<float>(job.rows * job.out_width());
  const bool serial = pool.size() == 1 || work(job) < kSerialWork;
  plan.build(job, serial ? 1 : pool.size(), parts);
  if (serial) {
    for (const AttentionSequence& s : job.batch.sequences) rotate_and_store_share(job, s, 0, 1, q);
    for (const Task& task : plan.tasks) attend(job, task, q);
    return;
  }
  const std::vector<Task>& tasks = plan.tasks;
  const std::vector<Merge>& merges = plan.merges;
  std::atomic<std::size_t> next{0};
  pool.run([&](unsigned thread) {
    for (const AttentionSequence& s : job.batch.sequences)
      rotate_and_store_share(job, s, thread, pool.size(), q);
    pool.barrier();
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks.size();)
      attend(job, tasks[i], q);
    if (merges.empty()) return;
    pool.barrier();
    for (std::size_t i = thread; i < merges.size() * job.spec.heads; i += pool.size())
      merge(job, merges[i / job.spec.heads], i % job.spec.heads);
  });
}

mx::array attention(const mx::array& qkv, const std::shared_ptr<const AttentionSpec>& spec,
                    const std::shared_ptr<const AttentionBatch>& batch, std::size_t layer,
                    mx::StreamOrDevice s) {
  check(spec->kv_heads > 0 && spec->heads % spec->kv_heads == 0, "kv_heads must divide heads");
  check(spec->head_dim > 0 && spec->head_dim <= simd::kMaxHeadDim && spec->head_dim % 2 == 0,
        "head_dim must be even and at most " + std::to_string(simd::kMaxHeadDim));
  const auto width = static_cast<int>((spec->heads + 2 * spec->kv_heads) * spec->head_dim);
  check(qkv.ndim() == 2 && qkv.dtype() == mx::float32 && qkv.shape(1) == width,
        "qkv must be f32 [rows, " + std::to_string(width) + "]");
  std::size_t rows = 0;
  for (const AttentionSequence& sequence : batch->sequences) {
    check(sequence.first_row == rows && sequence.rows > 0, "sequences must cover the rows in order");
    rows += sequence.rows;
  }
  check(rows == static_cast<std::size_t>(qkv.shape(0)) && batch->cos.size() == rows * (spec->head_dim / 2) &&
            batch->sin.size() == batch->cos.size(),
        "the batch must describe every row");
  return mx::array({qkv.shape(0), static_cast<int>(spec->heads * spec->head_dim)}, mx::float32,
                   std::make_shared<AttentionOp>(mx::to_stream(s), spec, batch, layer), {qkv});
}

}  // namespace metal_candle
