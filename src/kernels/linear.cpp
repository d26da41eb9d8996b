#include "kernels/linear.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <optional>
#include <string>

#include "kernels/compute_pool.h"
#include "kernels/cpu_primitive.h"
#include "kernels/scratch.h"
#include "kernels/simd/activation.h"
#include "kernels/simd/linear.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/quantize_row.h"

namespace metal_candle {
namespace {

namespace mx = mlx::core;
using Job = LinearCall;
using Segment = PackedLinear::Segment;

// Rows that one unit of work multiplies with a tile, at most: the more, the fewer times a tile is widened for
// them.
constexpr std::size_t kRowBlock = 512;
constexpr std::size_t kLeastRows = 96, kTasksPerThread = 4;  // fewer rows rather than idle threads
constexpr std::size_t kColumns = simd::kTileRows;            // of a block: one tile's
static_assert(kColumns == kLoraTile);

// Whether a weight multiplies int8 activations; the others take them as floats.
bool integer_products(const simd::WeightFormat& format) {
  return simd::same_activations(format, DType::q8_0);
}

// Prepared rows per row of x, for weights of one kind.
std::size_t prepared_rows(const LinearSpec& spec, const simd::WeightFormat& format) {
  return spec.refined != 0 && integer_products(format) ? 2 : 1;
}

bool refined(const LinearSpec& spec, const Segment& segment) {
  const auto index = static_cast<std::size_t>(&segment - spec.weight->segments().data());
  return (spec.refined >> index & 1) != 0 && integer_products(segment.format);
}

bool all_integer(const LinearSpec& spec) {
  return spec.refined == 0 && std::ranges::all_of(spec.weight->segments(), [](const Segment& s) {
           return integer_products(s.format);
         });
}

// The first row whose adapters may multiply 16 bits: where the weights do, or int8.
std::size_t half_from(const Job& job) {
  const auto exact = [](const Segment& s) { return s.format.bits == 0 && s.format.type == DType::f32; };
  return std::ranges::any_of(job.spec.weight->segments(), exact) ? LoraEpilogue::kNever : job.exact_rows;
}

// Rows of x made ready for the product, once for each of the two kinds of weights in the stack.
class Activations {
 public:
  /// Lays out `rows` rows in memory of bytes(job, rows).
  Activations(const Job& job, std::byte* memory, std::size_t rows) : ready_(job.quantized_x != nullptr) {
    for (const Segment& s : job.spec.weight->segments()) {
      Kind& kind = kinds_[integer_products(s.format)];
      if (kind.data) continue;
      kind = {s.format, simd::activation_row_bytes(s.format, job.k()), job.quantized_x, nullptr};
      if (ready_) continue;
      kind.data = kind.own = memory;
      memory += kind.stride * rows * prepared_rows(job.spec, s.format);
    }
  }

  /// An upper bound: segments may share a kind.
  static std::size_t bytes(const Job& job, std::size_t rows) {
    if (job.quantized_x) return 0;
    std::size_t sum = 0;
    for (const Segment& s : job.spec.weight->segments())
      sum += 2 * simd::activation_row_bytes(s.format, job.k());
    return sum * rows;
  }

  bool ready() const { return ready_; }  ///< nothing to prepare: the call brought them

  /// `work`: 2 k floats. `normed` (or null): where the normalised row is kept.
  void prepare(const Job& job, std::size_t row, float* work, float* normed = nullptr) const {
    const float* x = job.x + row * job.k();
    if (job.spec.norm) {
      float* out = normed ? normed : work;
      simd::rms_norm(x, job.spec.norm->weight.data(), job.spec.norm->eps, job.k(), out);
      x = out;
    }
    for (const Kind& kind : kinds_) {
      if (!kind.data) continue;
      const std::size_t n = prepared_rows(job.spec, kind.format);
      std::byte* first = kind.own + row * n * kind.stride;
      simd::prepare_activations(kind.format, x, job.k(), first);
      if (n == 1) continue;
      float* rest = work + job.k();
      simd::quantization_residual(x, job.k(), first, rest);
      simd::prepare_activations(kind.format, rest, job.k(), first + kind.stride);
    }
  }

  const std::byte* row(const Job& job, const Segment& segment, std::size_t index) const {
    const Kind& kind = kinds_[integer_products(segment.format)];
    return kind.data + index * prepared_rows(job.spec, segment.format) * kind.stride;
  }
  /// Prepared rows of dense and of quantized weights, or null.
  const std::byte* dense() const { return kinds_[0].data; }
  std::size_t dense_stride() const { return kinds_[0].stride; }
  const std::byte* quantized() const { return kinds_[1].data; }
  std::size_t quantized_stride() const { return kinds_[1].stride; }
  std::size_t stride(const Segment& segment) const { return kinds_[integer_products(segment.format)].stride; }

 private:
  struct Kind {
    simd::WeightFormat format = DType::f32;  // any weight of this kind
    std::size_t stride = 0;                  // bytes a row
    const std::byte* data = nullptr;
    std::byte* own = nullptr;  // the same, where prepare() fills it
  };
  std::array<Kind, 2> kinds_;  // dense, quantized
  bool ready_;
};

// Product of rows [row, row + rows) with a tile; out is [rows][kColumns], with room for as many rows again.
void multiply(const Job& job, const Activations& acts, const Segment& segment, std::size_t row,
              std::size_t rows, std::size_t tile, float* out) {
  const bool both = refined(job.spec, segment);  // else the residual rows, if there are any, are stepped over
  const std::size_t step = both ? 1 : prepared_rows(job.spec, segment.format);
  const auto product = [&](std::size_t first, std::size_t count, simd::DenseProducts products) {
    if (count == 0) return;
    simd::linear_tile(segment.format, job.k(), segment.tile(tile), acts.row(job, segment, row + first),
                      acts.stride(segment) * step, both ? 2 * count : count,
                      out + first * (both ? 2 : 1) * kColumns, kColumns, products);
  };
  const bool rounds = segment.format.type == DType::f16 || segment.format.type == DType::bf16;
  const std::size_t exact = rounds ? std::clamp(job.exact_rows, row, row + rows) - row : rows;
  product(0, exact, simd::DenseProducts::f32);
  product(exact, rows - exact, simd::DenseProducts::half);
  if (!both) return;
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = 0; c < kColumns; ++c)
      out[r * kColumns + c] = out[2 * r * kColumns + c] + out[(2 * r + 1) * kColumns + c];
}

// `tiles` consecutive ones of a segment, for one row or several; of several rows there is one.
struct Work {
  const Segment& segment;
  std::size_t row, rows, tile, tiles;
  std::size_t column() const { return tile * kColumns; }
  std::size_t columns() const { return std::min(tiles * kColumns, segment.n - column()); }
};

// x·Wᵀ, what adapters add to it and the bias.
void products(const Job& job, const Activations& acts, const LoraEpilogue* lora, const Work& work,
              float* block) {
  const auto index = static_cast<std::size_t>(&work.segment - job.spec.weight->segments().data());
  for (std::size_t t = 0; t < work.tiles; ++t) {
    if (lora && t + 1 == work.tiles)
      lora->prefetch(index, work.row, work.rows, work.column(), work.columns());
    multiply(job, acts, work.segment, work.row, work.rows, work.tile + t, block + t * kColumns);
  }
  if (lora) lora->apply(index, work.row, work.rows, work.column(), work.columns(), block, kColumns);
  if (job.spec.bias.empty()) return;
  const float* bias = job.spec.bias.data() + work.segment.out_begin + work.column();
  simd::add_rows(block, kColumns, bias, 0, work.rows, work.columns());
}

void store(const Job& job, float* block, const Work& work) {
  const std::size_t n = job.out_features(), column = work.segment.out_begin + work.column();
  const std::size_t rows = work.rows, columns = work.columns();
  if (job.quantized_y) {
    const std::size_t stride = quantized_row_bytes(n);
    std::byte* to = job.quantized_y + work.row * stride;
    for (std::size_t t = 0; t < work.tiles; ++t)
      simd::quantize_column(block + t * kColumns, rows, to + quantized_row_bytes(column + t * kColumns),
                            stride);
    if (!job.y) return;
  }
  float* y = job.y + work.row * n + column;
  if (job.residual == job.y) return simd::add_rows(y, n, block, kColumns, rows, columns);
  if (job.residual) simd::add_rows(block, kColumns, job.residual + work.row * n + column, n, rows, columns);
  for (std::size_t r = 0; r < rows; ++r, y += n, block += kColumns) {
    if (columns == kColumns)
      std::memcpy(y, block, kColumns * sizeof(float));  // a known size becomes a few vectors
    else
      std::copy_n(block, columns, y);
  }
}

// One unit of work; with swiglu `work` is of gate.
void compute(const Job& job, const Activations& acts, const LoraEpilogue* lora, const Work& work) {
  alignas(64) float block[2 * kRowBlock * kColumns];
  products(job, acts, lora, work, block);
  if (job.spec.swiglu) {
    alignas(64) float up[2 * kRowBlock * kColumns];
    products(job, acts, lora, {job.spec.weight->segments()[1], work.row, work.rows, work.tile, work.tiles},
             up);
    simd::swiglu(block, up, work.rows * work.tiles * kColumns, block);
  }
  store(job, block, work);
}

std::size_t total_tiles(const Job& job) {
  const auto segments = job.spec.weight->segments();
  if (job.spec.swiglu) return segments[0].tiles;
  std::size_t sum = 0;
  for (const Segment& s : segments) sum += s.tiles;
  return sum;
}

// body(segment, tile, tiles) for tiles [begin, end) of the stack, at most `most` at a time.
template <typename F>
void for_tiles(const Job& job, std::size_t begin, std::size_t end, std::size_t most, const F& body) {
  std::size_t first = 0;
  for (const Segment& s : job.spec.weight->segments()) {
    const std::size_t last = std::min(end, first + s.tiles);
    for (std::size_t t = std::max(begin, first); t < last; t += most)
      body(s, t - first, std::min(most, last - t));
    first += s.tiles;
  }
}

// Tiles that a single row multiplies before B of their adapters is read in one go.
constexpr std::size_t kStretch = 128;

// Decoding: each thread normalises and quantizes the one row for itself (cheaper than a barrier) and streams
// its own contiguous share of the weight.
void run_single(const Job& job) {
  ThreadPool& pool = compute_pool();
  const std::size_t tiles = total_tiles(job);
  const std::size_t reduced = job.lora ? LoraEpilogue::floats(*job.lora) : 0;
  thread_local LoraShares callers;
  LoraShares& shares = callers;  // a name that means the same on all threads of the region
  if (job.lora) shares.begin(reduced, pool.size());
  pool.run([&](unsigned thread) {
    thread_local Scratch memory, work;
    const Activations acts(job, memory.get<std::byte>(Activations::bytes(job, 1)), 1);
    float* normed = work.get<float>(2 * job.k());
    const std::size_t first = tiles * thread / pool.size(), last = tiles * (thread + 1) / pool.size();
    std::optional<LoraEpilogue> lora;
    if (job.lora) {
      thread_local Scratch lora_memory;
      lora.emplace(*job.lora, job.spec.norm ? normed : job.x, job.k(), lora_memory.get<float>(reduced),
                   half_from(job));
      if (all_integer(job.spec)) lora->use_quantized(acts.quantized(), 0);
    }
    if (!acts.ready()) acts.prepare(job, 0, normed);
    if (lora) {
      const std::byte* weights = nullptr;
      for_tiles(job, first, first + 1, 1,
                [&](const Segment& s, std::size_t tile, std::size_t) { weights = s.tile(tile); });
      lora->shrink_share(thread, shares, weights);
    }
    for_tiles(job, first, last, kStretch, [&](const Segment& s, std::size_t tile, std::size_t count) {
      compute(job, acts, lora ? &*lora : nullptr, {s, 0, 1, tile, count});
    });
    if (job.next_delta) LoraEpilogue::prefetch_share(*job.next_delta, thread, pool.size());
  });
}

std::size_t row_block(std::size_t rows, std::size_t tiles, std::size_t threads) {
  std::size_t block = kRowBlock;
  while (block / 2 >= kLeastRows && (rows + block - 1) / block * tiles < kTasksPerThread * threads)
    block /= 2;
  return block;
}

// Rows that a thread takes at a time, so that all have equally many.
std::size_t stretch_of(std::size_t rows, std::size_t threads) {
  constexpr std::size_t kMost = 48;
  const std::size_t each = (rows + threads - 1) / threads;
  const std::size_t stretches = (each + kMost - 1) / kMost;
  return (each + stretches - 1) / stretches;
}

// Prompts and batches: rows are prepared once, then row blocks x tiles are handed out dynamically.
void run_rows(const Job& job) {
  thread_local Scratch memory;
  const Activations acts(job, memory.get<std::byte>(Activations::bytes(job, job.rows)), job.rows);
  ThreadPool& pool = compute_pool();
  const std::size_t tiles = total_tiles(job);
  const std::size_t block = row_block(job.rows, tiles, pool.size());
  const std::size_t blocks = (job.rows + block - 1) / block;
  std::atomic<std::size_t> next{0};
  thread_local Scratch lora_memory;
  float* normed = nullptr;
  std::optional<LoraEpilogue> lora;
  if (job.lora) {
    const bool reads_x = job.exact_rows > 0 || !adapters_take_quantized(job.spec, *job.lora);
    const std::size_t x_floats = reads_x && job.spec.norm ? job.rows * job.k() : 0;
    float* floats = lora_memory.get<float>(x_floats + LoraEpilogue::floats(*job.lora));
    if (x_floats > 0) normed = floats;
    lora.emplace(*job.lora, normed ? normed : job.x, job.k(), floats + x_floats, half_from(job));
    if (all_integer(job.spec)) lora->use_quantized(acts.quantized(), acts.quantized_stride());
    if (acts.dense()) lora->use_halves(acts.dense() + simd::half_row_offset(job.k()), acts.dense_stride());
  }
  // With adapters a thread takes some rows at a time, for which it reads A once.
  const std::size_t stretch = lora ? stretch_of(job.rows, pool.size()) : 1;
  pool.run([&](unsigned thread) {
    thread_local Scratch work;
    const bool prepares = !acts.ready();
    for (std::size_t row = thread * stretch; (prepares || lora) && row < job.rows;
         row += pool.size() * stretch) {
      const std::size_t end = std::min(row + stretch, job.rows);
      for (std::size_t i = row; prepares && i < end; ++i)
        acts.prepare(job, i, work.get<float>(2 * job.k()), normed ? normed + i * job.k() : nullptr);
      if (lora) lora->shrink(row, end - row);
    }
    if (prepares || lora) pool.barrier();
    for (std::size_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < blocks * tiles;) {
      const std::size_t row = task / tiles * block, tile = task % tiles;
      for_tiles(job, tile, tile + 1, 1, [&](const Segment& s, std::size_t t, std::size_t count) {
        compute(job, acts, lora ? &*lora : nullptr, {s, row, std::min(block, job.rows - row), t, count});
      });
    }
  });
}

class LinearOp final : public CpuPrimitive {
 public:
  LinearOp(mx::Stream stream, std::shared_ptr<const LinearSpec> spec, std::shared_ptr<const LoraCall> lora)
      : CpuPrimitive(stream), spec_(std::move(spec)), lora_(std::move(lora)) {}
  const char* name() const override { return "metal_candle::linear"; }
  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& op = static_cast<const LinearOp&>(other);
    return op.spec_ == spec_ && op.lora_ == lora_;
  }

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    float* y = allocate<float>(outputs[0]);
    const float* residual = inputs.size() > 1 ? read<float>(inputs[1]) : nullptr;
    const auto rows = static_cast<std::size_t>(inputs[0].shape(0));
    dispatch(inputs, outputs, [spec = spec_, lora = lora_, x = read<float>(inputs[0]), residual, y, rows] {
      run_linear({*spec, x, residual, y, rows, rows, lora.get()});
    });
  }

 private:
  std::shared_ptr<const LinearSpec> spec_;
  std::shared_ptr<const LoraCall> lora_;
};

void check(bool ok, const std::string& what) {
  if (!ok) throw Error(ErrorCode::invalid_argument, "[linear] " + what);
}

}  // namespace

std::size_t quantized_row_bytes(std::size_t k) { return simd::activation_row_bytes(DType::q8_0, k); }

bool takes_quantized(const LinearSpec& spec) { return !spec.norm && all_integer(spec); }

bool adapters_take_quantized(const LinearSpec& spec, const LoraCall& lora) {
  return all_integer(spec) && LoraEpilogue::all_half(lora);
}

void run_linear(const LinearCall& call) { call.rows == 1 ? run_single(call) : run_rows(call); }

mx::array linear(const mx::array& x, const std::shared_ptr<const LinearSpec>& spec,
                 const std::optional<mx::array>& residual, mx::StreamOrDevice s,
                 std::shared_ptr<const LoraCall> lora) {
  const PackedLinear& weight = *spec->weight;
  const auto k = static_cast<int>(weight.in_features());
  const auto out = static_cast<int>(weight.out_features() / (spec->swiglu ? 2 : 1));
  check(x.ndim() == 2 && x.dtype() == mx::float32 && x.shape(1) == k,
        "x must be f32 [rows, " + std::to_string(k) + "]");
  check(spec->bias.empty() || spec->bias.size() == weight.out_features(), "bias must be [out_features]");
  check(!spec->norm || spec->norm->weight.size() == weight.in_features(),
        "norm weight must be [in_features]");
  check(!spec->swiglu || (weight.segments().size() == 2 && weight.segments()[0].n == weight.segments()[1].n),
        "swiglu needs a gate and an up matrix of one size");
  std::vector<mx::array> inputs{x};
  if (residual) {
    check(residual->ndim() == 2 && residual->dtype() == mx::float32 && residual->shape(0) == x.shape(0) &&
              residual->shape(1) == out,
          "residual must be f32 [rows, " + std::to_string(out) + "]");
    inputs.push_back(*residual);
  }
  return mx::array({x.shape(0), out}, mx::float32,
                   std::make_shared<LinearOp>(mx::to_stream(s), spec, std::move(lora)), std::move(inputs));
}

}  // namespace metal_candle
