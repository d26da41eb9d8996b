// merge_adapters: adapters become part of a checkpoint's weights. Row by row, in f32, without loading the
// model.
#include <algorithm>
#include <cmath>
#include <deque>

#include "adapters/adapter_impl.h"
#include "adapters/format_common.h"
#include "io/quote.h"
#include "io/safetensors_writer.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/lora.h"
#include "models/checkpoint.h"
#include "models/registry.h"

namespace metal_candle {
namespace {

struct Change {
  const LoraModule* module;
  float weight;
};

class Merger {
 public:
  Merger(const WeightStore& store, const DecoderSpec& spec, const std::vector<AdapterUse>& adapters)
      : store_(store), spec_(spec) {
    for (const AdapterUse& use : adapters) {
      const auto& weights = use.adapter->impl().file.weights;
      weights_.push_back(weights->rotary() == RotaryOrder::interleaved ? weights->with_halves(spec.head_dim)
                                                                       : weights);
      for (const LoraModule& m : weights_.back()->modules()) changes_.push_back({&m, use.scale});
    }
    for (const Change& c : changes_) check(c);
  }

  MergeReport write(const std::filesystem::path& directory) {
    std::vector<StoredTensor> out;
    for (const StoredTensor& t : store_.tensors()) out.push_back(merged(t));
    report_.rounding_error = report_.change > 0 ? std::sqrt(lost_ / report_.change) : 0;
    report_.change = std::sqrt(report_.change);
    std::filesystem::create_directories(directory);
    write_safetensors(directory / "model.safetensors", out, {{"format", "pt"}});
    return report_;
  }

 private:
  [[noreturn]] void fail(ErrorCode code, const LoraModule& m, const std::string& why) const {
    throw Error(code, quote_path(store_.path()) + ": " + module_name(m.id) + ": " + why);
  }

  void check(const Change& c) const {
    const LoraModule& m = *c.module;
    const StoredTensor* weight = store_.find(module_name(m.id) + ".weight");
    const bool table = m.id.role == WeightRole::embedding;
    const bool tied = spec_.tied_embeddings && (table || m.id.role == WeightRole::lm_head);
    // Trained tokens are trained in both places.
    if (tied && (m.delta.rank > 0 || m.delta.replaced.empty()))
      fail(ErrorCode::unsupported, m,
           "the table is the output layer too, but the adapter changes only one of them");
    if (!weight) fail(ErrorCode::invalid_argument, m, "the model has no such weight");
    if (!simd::lora_supports(weight->dtype))
      fail(ErrorCode::unsupported, m,
           "the weight is " + std::string(name(weight->dtype)) +
               "; only f32, f16 and bf16 models can be merged");
    const std::size_t rows = table ? m.in : m.out, columns = table ? m.out : m.in;
    const bool some = !m.delta.replaced.empty();
    if (weight->shape.size() != 2 || (!some && weight->shape[0] != rows) || weight->shape[1] != columns ||
        (some && m.delta.replaced.back() >= weight->shape[0]))
      fail(ErrorCode::invalid_argument, m, "the adapter's shapes are not the model's");
    if (!m.delta.bias.empty() && !store_.find(module_name(m.id) + ".bias"))
      fail(ErrorCode::unsupported, m, "the adapter has a bias, but the model's layer has none to add it to");
  }

  StoredTensor merged(const StoredTensor& t) {
    std::vector<Change> of_weight, of_bias;
    for (const Change& c : changes_) {
      if (t.name == module_name(c.module->id) + ".weight") of_weight.push_back(c);
      if (t.name == module_name(c.module->id) + ".bias" && !c.module->delta.bias.empty())
        of_bias.push_back(c);
    }
    if (of_weight.empty() && of_bias.empty()) return t;
    const std::size_t rows = of_weight.empty() ? 1 : t.shape[0], columns = t.shape.back();
    std::vector<std::byte>& bytes = memory_.emplace_back(t.data.size());
    const std::size_t row_bytes = columns * block_bytes(t.dtype);
    std::vector<float> base(columns), sum(columns), rounded(columns);
    for (std::size_t row = 0; row < rows; ++row) {
      simd::dequantize(t.dtype, t.data.data() + row * row_bytes, base.data(), columns);
      sum = base;
      for (const Change& c : of_weight) add_row(c, row, base, sum);
      for (const Change& c : of_bias)
        for (std::size_t i = 0; i < columns; ++i)
          sum[i] += c.weight * c.module->delta.scale * c.module->delta.bias[i];
      store(t.dtype, sum, bytes.data() + row * row_bytes);
      simd::dequantize(t.dtype, bytes.data() + row * row_bytes, rounded.data(), columns);
      for (std::size_t i = 0; i < columns; ++i) {
        report_.change += std::pow(static_cast<double>(sum[i]) - base[i], 2);
        lost_ += std::pow(static_cast<double>(rounded[i]) - sum[i], 2);
      }
    }
    ++report_.modules;
    return {t.name, t.dtype, t.shape, bytes};
  }

  void add_row(const Change& c, std::size_t row, const std::vector<float>& base,
               std::vector<float>& sum) const {
    const LoraModule& m = *c.module;
    const LoraDelta& d = m.delta;
    const std::size_t columns = base.size(), element = block_bytes(d.type);
    if (d.rows && !m.base_copy) {
      std::size_t index = row;
      if (!d.replaced.empty()) {
        const auto found = std::ranges::lower_bound(d.replaced, row);
        if (found == d.replaced.end() || *found != row) return;
        index = static_cast<std::size_t>(found - d.replaced.begin());
      }
      std::vector<float> stored(columns);
      simd::dequantize(d.type, d.rows + index * columns * element, stored.data(), columns);
      for (std::size_t i = 0; i < columns; ++i) sum[i] += c.weight * (stored[i] - base[i]);
    }
    if (d.rank == 0) return;
    // A row of W takes row `row` of B over A; of a table, row `row` of A over B.
    const bool table = m.id.role == WeightRole::embedding;
    std::vector<float> t(d.rank), delta(columns, 0.0f);
    for (std::size_t r = 0; r < d.rank; ++r) {
      const std::byte* from = table ? d.a + (row * d.rank + r) * element : d.b + (r * m.out + row) * element;
      simd::dequantize(d.type, from, &t[r], 1);
      t[r] *= d.scale;
    }
    simd::lora_expand(d.type, table ? d.b : d.a, columns, d.rank, t.data(), d.rank, 1, columns, delta.data(),
                      columns);
    double gain = 1;
    if (!m.magnitude.empty()) {
      double squares = 0;
      for (std::size_t i = 0; i < columns; ++i)
        squares += std::pow(static_cast<double>(base[i]) + delta[i], 2);
      gain = m.magnitude[row] / std::sqrt(squares);
    }
    for (std::size_t i = 0; i < columns; ++i)
      sum[i] += c.weight * static_cast<float>(gain * (static_cast<double>(base[i]) + delta[i]) - base[i]);
  }

  static void store(DType type, const std::vector<float>& values, std::byte* out) {
    auto* words = reinterpret_cast<std::uint16_t*>(out);
    if (type == DType::f16) return simd::f32_to_f16(values.data(), values.size(), words);
    if (type == DType::bf16) return simd::f32_to_bf16(values.data(), values.size(), words);
    std::copy_n(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float), out);
  }

  const WeightStore& store_;
  const DecoderSpec& spec_;
  std::vector<std::shared_ptr<const LoraWeights>> weights_;
  std::vector<Change> changes_;
  std::deque<std::vector<std::byte>> memory_;
  MergeReport report_;
  double lost_ = 0;
};

}  // namespace

MergeReport merge_adapters(const std::filesystem::path& model, const std::vector<AdapterUse>& adapters,
                           const std::filesystem::path& directory) {
  const Checkpoint checkpoint = Checkpoint::open(model);
  const SafetensorsModel* files = checkpoint.store().safetensors();
  if (!files)
    throw Error(ErrorCode::unsupported,
                quote_path(model) + ": only safetensors models can be merged, not GGUF");
  std::error_code ignored;
  if (std::filesystem::equivalent(files->directory(), directory, ignored))
    throw Error(ErrorCode::invalid_argument,
                quote_path(directory) + ": is the model's own; choose another directory");
  const DecoderSpec spec = make_decoder_spec(checkpoint.config());
  const MergeReport report = Merger(checkpoint.store(), spec, adapters).write(directory);
  for (const auto& entry : std::filesystem::directory_iterator(files->directory())) {
    const std::string extension = entry.path().extension().string();
    const bool text =
        extension == ".json" || extension == ".jinja" || extension == ".txt" || extension == ".model";
    const bool index = entry.path().filename().string().ends_with(".index.json");
    if (entry.is_regular_file() && text && !index)
      std::filesystem::copy_file(entry.path(), directory / entry.path().filename(),
                                 std::filesystem::copy_options::overwrite_existing);
  }
  return report;
}

}  // namespace metal_candle
