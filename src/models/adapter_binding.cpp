#include "models/adapter_binding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "kernels/compute_pool.h"
#include "kernels/simd/dequantize.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// A copy of the base's weight, rounded to this model's format, differs by less; one that was trained by more.
constexpr double kQuantizationError = 0.15;

// What binding asks of a model.
struct Target {
  std::uint32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  bool gated_mlp;
  bool has_output, output_is_table;
  /// Whose names its modules have; null: a causal decoder's.
  std::vector<const EncoderNames*> names;
  /// A row of the model's own weight behind a module.
  std::function<void(WeightId, std::size_t row, float* out)> read_row;
};

class Binder {
 public:
  Binder(Target target, const AdapterFile& file, const std::string& adapter)
      : target_(std::move(target)), file_(file), adapter_(adapter) {}

  std::shared_ptr<const BoundAdapter> bind() {
    auto out = std::make_shared<BoundAdapter>();
    out->weights =
        LoraWeights::ordered(file_.weights, RotaryOrder::halves, target_.head_dim, "adapter " + adapter_);
    for (const LoraRun& run : out->weights->runs()) check(run);
    check_targets();
    if (const DeltaPlaces* places = out->weights->places()) {
      out->places = {out->weights, places};
    } else {
      for (const LoraModule& m : out->weights->modules()) add(*out, m);
      out->places = std::make_shared<const DeltaPlaces>(deltas_);
    }
    return out;
  }

 private:
  // The module's delta, or what the model makes of it.
  const LoraDelta& fitted(BoundAdapter& out, const LoraModule& m) const {
    if (m.magnitude.empty() && !m.base_copy) return m.delta;
    LoraDelta& delta = out.changed.emplace_front(m.delta);
    if (!m.magnitude.empty()) delta.gain = out.gains.emplace_back(gain(m));
    if (m.base_copy) {
      check_base_copy(m);
      delta.rows = nullptr;
    }
    return delta;
  }

  // PEFT trains the tokens of a table that is the output layer too in both places.
  bool reaches_head(const LoraModule& m) const {
    return m.id.role == WeightRole::embedding && !m.delta.replaced.empty() && target_.output_is_table;
  }

  // What the model keeps apart of a module that an encoder's checkpoint stores as one.
  static std::span<const WeightRole> parts(const WeightRole& role) {
    static constexpr WeightRole kQkv[] = {WeightRole::q, WeightRole::k, WeightRole::v};
    static constexpr WeightRole kGateUp[] = {WeightRole::gate, WeightRole::up};
    if (role == WeightRole::qkv) return kQkv;
    if (role == WeightRole::gate_up) return kGateUp;
    return {&role, 1};
  }

  // Outputs [first, first + n) of a delta of a linear layer with k inputs.
  static const LoraDelta& slice(BoundAdapter& out, const LoraDelta& whole, std::size_t first, std::size_t n,
                                std::size_t k) {
    LoraDelta& delta = out.changed.emplace_front(whole);
    const std::size_t element = block_bytes(delta.type);
    if (delta.rank > 0) {
      const std::vector<std::byte> b = lora_unpack_b(delta, false);
      auto& packed = out.slices.emplace_back(lora_b_elements(delta.rank, n) * element);
      lora_pack_b(delta.type, b.data() + first * delta.rank * element, false, delta.rank, n, packed.data());
      delta.b = packed.data();
    }
    delta.n = n;
    if (!delta.bias.empty()) delta.bias = delta.bias.subspan(first, n);
    if (!delta.gain.empty()) delta.gain = delta.gain.subspan(first, n);
    if (delta.rows) delta.rows += first * k * element;
    return delta;
  }

  void add(BoundAdapter& out, const LoraModule& m) {
    if (m.id.role == WeightRole::pooler) return;
    const LoraDelta& delta = fitted(out, m);
    std::size_t first = 0;
    for (const WeightRole role : parts(m.id.role)) {
      const std::size_t n = shape(role).first;
      deltas_.push_back(
          {{role, m.id.layer}, role == m.id.role ? &delta : &slice(out, delta, first, n, m.in)});
      first += n;
    }
    if (reaches_head(m)) {
      LoraDelta& head = out.changed.emplace_front();
      head.type = delta.type;
      head.n = target_.vocab;
      head.k = target_.hidden;
      head.rows = delta.rows;
      head.replaced = delta.replaced;
      deltas_.push_back({{WeightRole::lm_head}, &head});
    }
  }

  [[noreturn]] void fail(WeightId id, const std::string& why) const {
    throw Error(ErrorCode::invalid_argument,
                "adapter " + adapter_ + ": " + file_.weights->name(id) + ": " + why);
  }

  // [out, in], of the embedding [vocabulary, width]
  std::pair<std::size_t, std::size_t> shape(WeightRole role) const {
    const std::size_t d = target_.head_dim, h = target_.hidden, i = target_.intermediate;
    switch (role) {
      case WeightRole::q: return {target_.heads * d, h};
      case WeightRole::k:
      case WeightRole::v: return {target_.kv_heads * d, h};
      case WeightRole::qkv: return {(target_.heads + 2 * target_.kv_heads) * d, h};
      case WeightRole::o: return {h, target_.heads * d};
      case WeightRole::gate:
      case WeightRole::up: return {i, h};
      case WeightRole::gate_up: return {2 * i, h};
      case WeightRole::down: return {h, i};
      case WeightRole::embedding: return {h, target_.vocab};
      case WeightRole::pooler: return {h, h};
      default: return {target_.vocab, h};
    }
  }

  // Whether the model calls a module by the adapter's name.
  bool is_named(WeightId id) const {
    const EncoderNames* theirs = file_.weights->names().encoder();
    return std::ranges::any_of(target_.names, [&](const EncoderNames* ours) {
      if (!ours || !theirs) return ours == theirs;
      return encoder_module_name(*ours, id) == encoder_module_name(*theirs, id);
    });
  }

  void check(const LoraRun& run) const {
    const auto [role, layer] = run.id;
    if (!is_named(run.id) || (role == WeightRole::lm_head && !target_.has_output) ||
        (role == WeightRole::gate && !target_.gated_mlp))
      fail(run.id, "the model has no such module");
    if (layer >= target_.layers) fail_beyond(run.id);
    const auto [out, in] = shape(role);
    // Where only some rows are replaced the number of all rows is the model's.
    const bool embedding = role == WeightRole::embedding;
    const bool some = !run.replaced.empty();
    const std::size_t got_out = some && !embedding ? out : run.out, got_in = some && embedding ? in : run.in;
    if (got_out != out || got_in != in)
      fail(run.id, "expected a module of " + std::to_string(in) + " inputs and " + std::to_string(out) +
                       " outputs, got " + std::to_string(got_in) + " and " + std::to_string(got_out));
    if (some && run.replaced.back() >= target_.vocab)
      fail(run.id, "token " + std::to_string(run.replaced.back()) + " is outside the vocabulary of " +
                       std::to_string(target_.vocab));
    if (run.layers > target_.layers - layer) fail_beyond({role, target_.layers});
  }

  [[noreturn]] void fail_beyond(WeightId id) const {
    fail(id, "the model has only " + std::to_string(target_.layers) + " layers");
  }

  // What the adapter's configuration targets has matrices, and nothing else has.
  void check_targets() const {
    if (!file_.targets) return;
    // What is targeted and has no matrices, or has them and is not targeted.
    const auto differing = [&](std::uint32_t layer) {
      RoleSet roles = file_.targets(layer, target_.layers);
      for (const LoraRun& run : file_.weights->runs())
        if (run.matrices && layer - run.id.layer < run.layers) roles ^= role_bit(run.id.role);
      return roles & ~role_bit(WeightRole::pooler);  // the same BERT may be saved with it or without
    };
    RoleSet any = 0;
    for (std::uint32_t layer = 0; layer < target_.layers; ++layer) any |= differing(layer);
    if (any == 0) return;
    const auto role = static_cast<WeightRole>(std::countr_zero(any));
    std::uint32_t layer = 0;
    while (!(differing(layer) & role_bit(role))) ++layer;
    const WeightId id{role, layer};
    fail(id, file_.targets(layer, target_.layers) & role_bit(role)
                 ? "the adapter's configuration targets this module, but it holds no matrices for it"
                 : "the adapter holds matrices for a module that its configuration does not target");
  }

  // magnitude / |W + scale · B·A| by rows.
  std::vector<float> gain(const LoraModule& m) const {
    const LoraDelta& d = m.delta;
    const std::size_t k = m.in, n = m.out, rank = d.rank;
    std::vector<float> a(rank * k), b(lora_b_elements(rank, n)), out(n);
    simd::dequantize(d.type, d.a, a.data(), a.size());
    simd::dequantize(d.type, d.b, b.data(), b.size());
    compute_pool().parallel_for(n, 16, [&](std::size_t begin, std::size_t end) {
      std::vector<float> row(k);
      for (std::size_t j = begin; j < end; ++j) {
        target_.read_row(m.id, j, row.data());
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
    const std::size_t rows = target_.vocab, k = target_.hidden;
    std::vector<float> ours(k), theirs(k);
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < rows; i += std::max<std::size_t>(1, rows / 512)) {
      target_.read_row(m.id, i, ours.data());
      simd::dequantize(m.delta.type, m.delta.rows + i * k * block_bytes(m.delta.type), theirs.data(), k);
      for (std::size_t j = 0; j < k; ++j) {
        difference += (static_cast<double>(ours[j]) - theirs[j]) * (static_cast<double>(ours[j]) - theirs[j]);
        size += static_cast<double>(ours[j]) * ours[j];
      }
    }
    if (difference > kQuantizationError * kQuantizationError * size)
      fail(m.id, "the base weight saved with the adapter (base_layer.weight) is not this model's");
  }

  const Target target_;
  const AdapterFile& file_;
  const std::string& adapter_;
  std::vector<DeltaPlaces::Delta> deltas_;
};

template <class Spec>
Target target_of(const Spec& s) {
  Target t{};
  t.layers = s.layers;
  t.hidden = s.hidden;
  t.intermediate = s.intermediate;
  t.heads = s.heads;
  t.kv_heads = s.kv_heads;
  t.head_dim = s.head_dim;
  t.vocab = s.vocab;
  return t;
}

void read_row(const Decoder& decoder, WeightId id, std::size_t row, float* out) {
  if (id.role == WeightRole::embedding) return decoder.weights().embedding->unpack_row(row, out);
  const AdapterPlace at = adapter_place(id);
  const Linear* linear = &decoder.weights().head;
  if (id.role != WeightRole::lm_head) {
    const DecoderLayer& layer = decoder.weights().layers[id.layer];
    const Linear* of_layer[] = {&layer.qkv, &layer.output, &layer.gate_up, &layer.down};
    linear = of_layer[at.place - adapter_place({WeightRole::q, id.layer}).place];
  }
  const PackedLinear& weight = *linear->spec().weight;
  weight.unpack_row(weight.segments()[at.segment].out_begin + row, out);
}

}  // namespace

std::shared_ptr<const BoundAdapter> bind_adapter(const Decoder& decoder, const AdapterFile& file,
                                                 const std::string& adapter) {
  Target target = target_of(decoder.spec());
  target.gated_mlp = target.has_output = true;
  target.output_is_table = decoder.weights().head.spec().weight == decoder.weights().embedding;
  target.names = {nullptr, &kDecoderNames};
  target.read_row = [&](WeightId id, std::size_t row, float* out) { read_row(decoder, id, row, out); };
  return Binder(std::move(target), file, adapter).bind();
}

std::shared_ptr<const BoundAdapter> bind_adapter(const Encoder& encoder, const AdapterFile& file,
                                                 const std::string& adapter) {
  const EncoderSpec& spec = encoder.spec();
  Target target = target_of(spec);
  target.gated_mlp = spec.gated_mlp;
  target.names = {&encoder_names(spec, false)};
  if (spec.causal) target.names.push_back(nullptr);
  // Transformers has its own NomicBERT, with a decoder's names.
  if (target.names.front() == &kNomicNames) target.names.push_back(&kDecoderNames);
  target.read_row = [&](WeightId id, std::size_t row, float* out) { encoder.read_row(id, row, out); };
  return Binder(std::move(target), file, adapter).bind();
}

}  // namespace metal_candle
