#include "models/adapter_binding.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "adapters/format_common.h"
#include "kernels/compute_pool.h"
#include "kernels/simd/dequantize.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// A copy of the base's weight, rounded to this model's format, differs by less; one that was trained by more.
constexpr double kQuantizationError = 0.15;

class Binder {
 public:
  Binder(const Decoder& decoder, const AdapterFile& file, const std::string& adapter)
      : decoder_(decoder), spec_(decoder.spec()), file_(file), adapter_(adapter) {}

  std::shared_ptr<const BoundAdapter> bind() {
    auto out = std::make_shared<BoundAdapter>();
    out->weights =
        LoraWeights::ordered(file_.weights, RotaryOrder::halves, spec_.head_dim, "adapter " + adapter_);
    for (const LoraModule& m : out->weights->modules()) check(m);
    check_targets();
    count(*out);
    for (const LoraModule& m : out->weights->modules()) {
      LoraDelta delta = m.delta;
      if (!m.magnitude.empty()) {
        out->gains.push_back(gain(m));
        delta.gain = out->gains.back();
      }
      if (m.base_copy) {
        check_base_copy(m);
        delta.rows = nullptr;
      }
      add(*out, m.id, delta);
      if (reaches_head(m)) {
        LoraDelta head;
        head.type = delta.type;
        head.n = spec_.vocab;
        head.rows = delta.rows;
        head.replaced = delta.replaced;
        add(*out, {WeightRole::lm_head}, head);
      }
    }
    return out;
  }

 private:
  // PEFT trains the tokens of a table that is the output layer too in both places.
  bool reaches_head(const LoraModule& m) const {
    return m.id.role == WeightRole::embedding && !m.delta.replaced.empty() &&
           decoder_.weights().head.spec().weight == decoder_.weights().embedding;
  }

  // Makes room for the entries of each place.
  void count(BoundAdapter& out) {
    out.first.assign(adapter_places(spec_.layers) + 1, 0);
    const auto one = [&](WeightId id) { ++out.first[adapter_place(id, spec_.layers).place + 1]; };
    for (const LoraModule& m : out.weights->modules()) {
      one(m.id);
      if (reaches_head(m)) one({WeightRole::lm_head});
    }
    std::partial_sum(out.first.begin(), out.first.end(), out.first.begin());
    out.entries.resize(out.first.back());
    next_ = out.first;
  }

  void add(BoundAdapter& out, WeightId id, const LoraDelta& delta) {
    const AdapterPlace at = adapter_place(id, spec_.layers);
    out.entries[next_[at.place]++] = {at.segment, delta};
  }

  [[noreturn]] void fail(WeightId id, const std::string& why) const {
    throw Error(ErrorCode::invalid_argument, "adapter " + adapter_ + ": " + module_name(id) + ": " + why);
  }

  // [out, in], of the embedding [vocabulary, width]
  std::pair<std::size_t, std::size_t> shape(WeightRole role) const {
    const std::size_t d = spec_.head_dim, h = spec_.hidden;
    switch (role) {
      case WeightRole::q: return {spec_.heads * d, h};
      case WeightRole::k:
      case WeightRole::v: return {spec_.kv_heads * d, h};
      case WeightRole::o: return {h, spec_.heads * d};
      case WeightRole::gate:
      case WeightRole::up: return {spec_.intermediate, h};
      case WeightRole::down: return {h, spec_.intermediate};
      case WeightRole::embedding: return {h, spec_.vocab};
      default: return {spec_.vocab, h};
    }
  }

  void check(const LoraModule& m) const {
    if (m.id.layer >= spec_.layers)
      fail(m.id, "the model has only " + std::to_string(spec_.layers) + " layers");
    const auto [out, in] = shape(m.id.role);
    // Where only some rows are replaced the number of all rows is the model's.
    const bool embedding = m.id.role == WeightRole::embedding;
    const bool some = !m.delta.replaced.empty();
    const std::size_t got_out = some && !embedding ? out : m.out, got_in = some && embedding ? in : m.in;
    if (got_out != out || got_in != in)
      fail(m.id, "expected a module of " + std::to_string(in) + " inputs and " + std::to_string(out) +
                     " outputs, got " + std::to_string(got_in) + " and " + std::to_string(got_out));
    if (some && m.delta.replaced.back() >= spec_.vocab)
      fail(m.id, "token " + std::to_string(m.delta.replaced.back()) + " is outside the vocabulary of " +
                     std::to_string(spec_.vocab));
  }

  // What the adapter's configuration targets has matrices, and nothing else has. Modules ascend, as here.
  void check_targets() const {
    const std::span<const LoraModule> modules = file_.weights->modules();
    auto next = modules.begin();
    for (unsigned i = 0; i < kWeightRoles; ++i) {
      const auto role = static_cast<WeightRole>(i);
      if (!is_adaptable(role)) continue;
      const bool of_model = role == WeightRole::embedding || role == WeightRole::lm_head;
      for (std::uint32_t layer = 0; layer < (of_model ? 1 : spec_.layers); ++layer) {
        const WeightId id{role, layer};
        while (next != modules.end() && next->id < id) ++next;
        const bool has = next != modules.end() && next->id == id && next->delta.rank > 0;
        if (file_.targets(id, spec_.layers) == has) continue;
        fail(id, has ? "the adapter holds matrices for a module that its configuration does not target"
                     : "the adapter's configuration targets this module, but it holds no matrices for it");
      }
    }
  }

  // The model's own weight behind a module, and its first row there.
  std::pair<const PackedLinear*, std::size_t> base(WeightId id) const {
    if (id.role == WeightRole::embedding) return {decoder_.weights().embedding.get(), 0};
    const AdapterPlace at = adapter_place(id, spec_.layers);
    const Linear* linear = &decoder_.weights().head;
    if (id.role != WeightRole::lm_head) {
      const DecoderLayer& layer = decoder_.weights().layers[id.layer];
      const Linear* of_layer[] = {&layer.qkv, &layer.output, &layer.gate_up, &layer.down};
      linear = of_layer[at.place % 4];
    }
    const PackedLinear& weight = *linear->spec().weight;
    return {&weight, weight.segments()[at.segment].out_begin};
  }

  // magnitude / |W + scale · B·A| by rows.
  std::vector<float> gain(const LoraModule& m) const {
    const auto [weight, first] = base(m.id);
    const LoraDelta& d = m.delta;
    const std::size_t k = m.in, n = m.out, rank = d.rank;
    std::vector<float> a(rank * k), b(lora_b_elements(rank, n)), out(n);
    simd::dequantize(d.type, d.a, a.data(), a.size());
    simd::dequantize(d.type, d.b, b.data(), b.size());
    compute_pool().parallel_for(n, 16,
                                [&, weight = weight, first = first](std::size_t begin, std::size_t end) {
                                  std::vector<float> row(k);
                                  for (std::size_t j = begin; j < end; ++j) {
                                    weight->unpack_row(first + j, row.data());
                                    for (std::size_t r = 0; r < rank; ++r) {
                                      const float factor = d.scale * b[lora_b_index(rank, r, j)];
                                      for (std::size_t i = 0; i < k; ++i) row[i] += factor * a[r * k + i];
                                    }
                                    double squares = 0;
                                    for (const float x : row) squares += static_cast<double>(x) * x;
                                    out[j] = static_cast<float>(m.magnitude[j] / std::sqrt(squares));
                                  }
                                });
    for (const float g : out)
      if (!std::isfinite(g)) fail(m.id, "a row of the adapted weight is zero, so DoRA has no direction");
    return out;
  }

  // On rows spread over the table.
  void check_base_copy(const LoraModule& m) const {
    const auto [weight, first] = base(m.id);
    const std::size_t rows = weight->out_features(), k = weight->in_features();
    std::vector<float> ours(k), theirs(k);
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < rows; i += std::max<std::size_t>(1, rows / 512)) {
      weight->unpack_row(first + i, ours.data());
      simd::dequantize(m.delta.type, m.delta.rows + i * k * block_bytes(m.delta.type), theirs.data(), k);
      for (std::size_t j = 0; j < k; ++j) {
        difference += (static_cast<double>(ours[j]) - theirs[j]) * (static_cast<double>(ours[j]) - theirs[j]);
        size += static_cast<double>(ours[j]) * ours[j];
      }
    }
    if (difference > kQuantizationError * kQuantizationError * size)
      fail(m.id, "the base weight saved with the adapter (base_layer.weight) is not this model's");
  }

  const Decoder& decoder_;
  const DecoderSpec& spec_;
  const AdapterFile& file_;
  const std::string& adapter_;
  std::vector<std::uint32_t> next_;  // by place: where its next entry goes
};

}  // namespace

std::shared_ptr<const BoundAdapter> bind_adapter(const Decoder& decoder, const AdapterFile& file,
                                                 const std::string& adapter) {
  return Binder(decoder, file, adapter).bind();
}

}  // namespace metal_candle
