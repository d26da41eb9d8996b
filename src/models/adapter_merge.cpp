// merge_adapters: adapters become part of a checkpoint's weights. Row by row, in f32, without loading the
// model; what they do not change keeps its bytes.
#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>

#include "adapters/adapter_impl.h"
#include "io/directory.h"
#include "io/gguf_writer.h"
#include "io/quote.h"
#include "io/safetensors_writer.h"
#include "kernels/compute_pool.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/lora.h"
#include "kernels/simd/quantize.h"
#include "models/checkpoint.h"
#include "models/registry.h"

namespace metal_candle {
namespace {

// What adapters add to one row of a weight or bias; rows are independent.
struct Change {
  const LoraModule* module;
  float weight;

  /// sum += weight times the change of row `row` of W, whose values are `base`.
  void add_row(std::size_t row, const std::vector<float>& base, std::vector<float>& sum) const {
    const LoraDelta& d = module->delta;
    const std::size_t columns = base.size(), element = block_bytes(d.type);
    if (d.rows && !module->base_copy) {
      std::size_t index = row;
      if (!d.replaced.empty()) {
        const auto found = std::ranges::lower_bound(d.replaced, row);
        if (found == d.replaced.end() || *found != row) return;
        index = static_cast<std::size_t>(found - d.replaced.begin());
      }
      std::vector<float> stored(columns);
      simd::dequantize(d.type, d.rows + index * columns * element, stored.data(), columns);
      for (std::size_t i = 0; i < columns; ++i) sum[i] += weight * (stored[i] - base[i]);
    }
    if (d.rank == 0) return;
    // A row of W takes row `row` of B over A; of a table, row `row` of A over B.
    const bool table = module->id.role == WeightRole::embedding;
    std::vector<float> t(d.rank), delta(columns, 0.0f);
    for (std::size_t r = 0; r < d.rank; ++r) {
      const std::byte* from =
          table ? d.a + (row * d.rank + r) * element : d.b + lora_b_index(d.rank, r, row) * element;
      simd::dequantize(d.type, from, &t[r], 1);
      t[r] *= d.scale;
    }
    if (table)
      lora_expand_all(d, t.data(), delta.data());
    else
      simd::lora_expand(d.type, d.a, columns, d.rank, t.data(), d.rank, 1, columns, delta.data(), columns);
    double gain = 1;
    if (!module->magnitude.empty()) {
      double squares = 0;
      for (std::size_t i = 0; i < columns; ++i)
        squares += std::pow(static_cast<double>(base[i]) + delta[i], 2);
      gain = module->magnitude[row] / std::sqrt(squares);
    }
    for (std::size_t i = 0; i < columns; ++i)
      sum[i] += weight * static_cast<float>(gain * (static_cast<double>(base[i]) + delta[i]) - base[i]);
  }

  void add_bias(std::vector<float>& sum) const {
    for (std::size_t i = 0; i < sum.size(); ++i)
      sum[i] += weight * module->delta.scale * module->delta.bias[i];
  }
};

// Sums of squares.
struct Sums {
  double change = 0, lost = 0, weights = 0;
  void operator+=(const Sums& other) {
    change += other.change;
    lost += other.lost;
    weights += other.weights;
  }
};

class Merger {
 public:
  Merger(const Checkpoint& checkpoint, const std::vector<AdapterUse>& adapters, std::optional<DType> type)
      : store_(checkpoint.store()), type_(type) {
    const DecoderSpec spec = make_decoder_spec(checkpoint.config());
    scheme_ = store_.gguf() ? NameScheme::gguf : NameScheme::hugging_face;
    tied_ = spec.tied_embeddings || !store_.find(name_of({WeightRole::lm_head}, ".weight"));
    const RotaryOrder order = store_.gguf() ? gguf_rotary(spec.architecture) : RotaryOrder::halves;
    for (const AdapterUse& use : adapters) {
      check_use(use);
      if (use.adapter->impl().file.weights->names().encoder())
        throw Error(ErrorCode::unsupported,
                    use.adapter->info().path + ": it is for an encoder, which cannot be merged");
      weights_.push_back(LoraWeights::ordered(use.adapter->impl().file.weights, order, spec.head_dim,
                                              use.adapter->info().path));
      for (const LoraModule& m : weights_.back()->modules()) changes_.push_back({&m, use.scale});
    }
    for (const Change& c : changes_) check(*c.module);
  }

  std::vector<StoredTensor> tensors() {
    std::vector<StoredTensor> out;
    for (const StoredTensor& t : store_.tensors()) out.push_back(merged(t));
    return out;
  }

  MergeReport report() const {
    const auto ratio = [](double part, double whole) { return whole > 0 ? std::sqrt(part / whole) : 0; };
    return {modules_, std::sqrt(sums_.change), ratio(sums_.lost, sums_.change),
            ratio(sums_.lost, sums_.weights)};
  }

 private:
  std::string name_of(WeightId id, const char* suffix) const { return weight_name(scheme_, id) + suffix; }

  [[noreturn]] void fail(ErrorCode code, const LoraModule& m, const std::string& why) const {
    throw Error(code, quote_path(store_.path()) + ": " + name_of(m.id, "") + ": " + why);
  }

  DType type_of(const StoredTensor& weight) const { return type_.value_or(weight.dtype); }

  void check(const LoraModule& m) const {
    const StoredTensor* weight = store_.find(name_of(m.id, ".weight"));
    const bool table = m.id.role == WeightRole::embedding;
    const bool tied = tied_ && (table || m.id.role == WeightRole::lm_head);
    // Trained tokens are trained in both places.
    if (tied && (m.delta.rank > 0 || m.delta.replaced.empty()))
      fail(ErrorCode::unsupported, m,
           "the table is the output layer too, but the adapter changes only one of them");
    if (!weight) fail(ErrorCode::invalid_argument, m, "the model has no such weight");
    const DType type = type_of(*weight);
    if (!simd::can_dequantize(weight->dtype) || !simd::can_quantize(type) ||
        weight->shape.back() % block_elements(type) != 0)
      fail(ErrorCode::unsupported, m,
           "the weight cannot be written again as " + std::string(name(type)) +
               "; choose another type (f32, f16, bf16, and for GGUF q8_0, q5_1, q5_0, q4_1, q4_0)");
    const std::size_t rows = table ? m.in : m.out, columns = table ? m.out : m.in;
    const bool some = !m.delta.replaced.empty();
    if (weight->shape.size() != 2 || (!some && weight->shape[0] != rows) || weight->shape[1] != columns ||
        (some && m.delta.replaced.back() >= weight->shape[0]))
      fail(ErrorCode::invalid_argument, m, "the adapter's shapes are not the model's");
    if (!m.delta.bias.empty() && !store_.find(name_of(m.id, ".bias")))
      fail(ErrorCode::unsupported, m, "the adapter has a bias, but the model's layer has none to add it to");
  }

  StoredTensor merged(const StoredTensor& t) {
    std::vector<Change> of_weight, of_bias;
    for (const Change& c : changes_) {
      if (t.name == name_of(c.module->id, ".weight")) of_weight.push_back(c);
      if (t.name == name_of(c.module->id, ".bias") && !c.module->delta.bias.empty()) of_bias.push_back(c);
    }
    if (of_weight.empty() && of_bias.empty()) return t;
    const std::size_t rows = of_weight.empty() ? 1 : t.shape[0], columns = t.shape.back();
    const DType type = of_weight.empty() ? t.dtype : type_of(t);
    const std::size_t in_bytes = *byte_size(t.dtype, columns), out_bytes = *byte_size(type, columns);
    std::vector<std::byte>& bytes = memory_.emplace_back(rows * out_bytes);
    std::mutex mutex;
    Sums of_tensor;
    compute_pool().parallel_for(rows, 16, [&](std::size_t begin, std::size_t end) {
      std::vector<float> base(columns), sum(columns), stored(columns);
      Sums sums;
      for (std::size_t row = begin; row < end; ++row) {
        simd::dequantize(t.dtype, t.data.data() + row * in_bytes, base.data(), columns);
        sum = base;
        for (const Change& c : of_weight) c.add_row(row, base, sum);
        for (const Change& c : of_bias) c.add_bias(sum);
        simd::quantize(type, sum.data(), bytes.data() + row * out_bytes, columns);
        simd::dequantize(type, bytes.data() + row * out_bytes, stored.data(), columns);
        for (std::size_t i = 0; i < columns; ++i)
          sums += {std::pow(static_cast<double>(sum[i]) - base[i], 2),
                   std::pow(static_cast<double>(stored[i]) - sum[i], 2),
                   std::pow(static_cast<double>(sum[i]), 2)};
      }
      const std::lock_guard lock(mutex);
      of_tensor += sums;
    });
    if (!std::isfinite(of_tensor.lost))
      throw Error(ErrorCode::invalid_argument, quote_path(store_.path()) + ": " + quote(t.name) +
                                                   ": merged, its values are not finite as " +
                                                   std::string(name(type)) +
                                                   "; choose another type or smaller scales");
    sums_ += of_tensor;
    ++modules_;
    return {t.name, type, t.shape, bytes};
  }

  const WeightStore& store_;
  const std::optional<DType> type_;
  NameScheme scheme_;
  bool tied_ = false;
  std::vector<std::shared_ptr<const LoraWeights>> weights_;
  std::vector<Change> changes_;
  std::deque<std::vector<std::byte>> memory_;
  std::size_t modules_ = 0;
  Sums sums_;
};

std::optional<DType> parse_type(const std::string& text) {
  if (text.empty()) return std::nullopt;
  for (const DType type :
       {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q5_1, DType::q5_0, DType::q4_1, DType::q4_0})
    if (text == name(type)) return type;
  throw Error(ErrorCode::invalid_argument,
              "type " + quote(text) + ": use f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0");
}

void write_directory(const SafetensorsModel& model, Merger& merger, const std::filesystem::path& directory) {
  const std::vector<StoredTensor> tensors = merger.tensors();
  make_directory(directory);
  write_safetensors(directory / "model.safetensors", tensors, {{"format", "pt"}});
  copy_companions(model.directory(), directory);
}

}  // namespace

MergeReport merge_adapters(const std::filesystem::path& model, const std::vector<AdapterUse>& adapters,
                           const std::filesystem::path& output, const MergeOptions& options) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const std::optional<DType> type = parse_type(options.type);
  const WeightStore& store = checkpoint.store();
  std::error_code ignored;
  const auto own = store.gguf() ? store.path() : store.safetensors()->directory();
  if (std::filesystem::equivalent(own, output, ignored))
    throw Error(ErrorCode::invalid_argument,
                quote_path(output) + ": is the model's own; choose another path");
  if (!store.gguf() && type && is_quantized(*type))
    throw Error(ErrorCode::unsupported, quote_path(model) + ": safetensors models cannot be written as " +
                                            options.type + "; use f32, f16 or bf16");
  Merger merger(checkpoint, adapters, type);
  if (const GgufFile* gguf = store.gguf())
    write_gguf(output, gguf->metadata().entries(), merger.tensors());
  else
    write_directory(*store.safetensors(), merger, output);
  return merger.report();
}

}  // namespace metal_candle
