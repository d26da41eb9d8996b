#include "models/encoder.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "adapters/delta_places.h"
#include "kernels/simd/activation.h"
#include "kernels/simd/dequantize.h"
#include "nn/adapter_rows.h"

namespace metal_candle {
namespace {

constexpr std::size_t kLine = 64;  // bytes; parts of a buffer begin on one

// The activations of a piece, in place.
float* activated(Activation kind, const DensePiece& piece) {
  if (kind == Activation::gelu) return piece.gelu_values();
  float* x = piece.values();
  (kind == Activation::gelu_tanh ? simd::gelu_tanh : simd::silu)(x, piece.rows * piece.stride, x);
  return x;
}

}  // namespace

std::size_t RaggedBatch::longest() const {
  std::size_t out = 0;
  for (std::size_t s = 0; s < sequences(); ++s) out = std::max(out, length(s));
  return out;
}

void EmbeddingTable::read(std::size_t row, std::size_t hidden, float* out) const {
  const std::size_t bytes = *byte_size(tensor->dtype, hidden);
  simd::dequantize(tensor->dtype, tensor->data.data() + row * bytes, out, hidden);
}

EncoderAdapters::EncoderAdapters(const AdapterMix& mix, std::size_t layers, std::size_t tokens) {
  AdapterRows rows;
  rows.append(tokens, &mix);
  for (std::size_t place = 0; place < adapter_places(layers); ++place) {
    rows.fill(place, calls_.emplace_back());
    floats_ = std::max(floats_, LoraEpilogue::floats(calls_.back()));
  }
}

void EncoderBuffers::reserve(const Encoder& encoder, std::size_t tokens, std::size_t longest,
                             unsigned threads, const EncoderAdapters* adapters) {
  const EncoderSpec& spec = encoder.spec();
  const std::size_t hidden = spec.hidden, width = std::size_t{spec.heads} * spec.head_dim;
  const auto round = [](std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; };
  std::size_t total = 0;
  const auto take = [&](std::size_t bytes) { return std::exchange(total, total + round(bytes)); };
  const std::size_t hidden_at = take(tokens * hidden * sizeof(float));
  const std::size_t qkv_at = take(tokens * qkv_width(spec) * sizeof(float));
  const std::size_t attended_at = take(tokens * width * sizeof(float));
  const std::size_t gate_at = take(spec.gated_mlp ? tokens * spec.intermediate * sizeof(float) : 0);
  const std::size_t row_at = take(threads * hidden * 2 * sizeof(float));
  const std::size_t x_at =
      take(tokens * simd::product_row_bytes(encoder.products(), std::max(hidden, width)));
  const std::size_t activated_at =
      take(tokens * simd::product_row_bytes(encoder.products(), spec.intermediate));
  head_bytes_ = round(encoder.attention_bytes(longest));
  const std::size_t heads_at = take(threads * head_bytes_);
  const std::size_t exact_x_at = take(adapters && spec.pre_norm ? tokens * hidden * sizeof(float) : 0);
  const std::size_t exact_activated_at = take(adapters ? tokens * spec.intermediate * sizeof(float) : 0);
  const std::size_t lora_at = take(adapters ? adapters->floats() * sizeof(float) : 0);
  std::byte* base = memory_.get<std::byte>(total);
  const auto floats = [&](std::size_t at) { return reinterpret_cast<float*>(base + at); };
  hidden_ = floats(hidden_at);
  qkv_ = floats(qkv_at);
  attended_ = floats(attended_at);
  gate_ = floats(gate_at);
  row_ = floats(row_at);
  exact_x_ = floats(exact_x_at);
  exact_activated_ = floats(exact_activated_at);
  lora_ = floats(lora_at);
  x_ = base + x_at;
  activated_ = base + activated_at;
  heads_ = base + heads_at;
}

/// One forward pass of one batch, as one member of the team sees it. Every step ends with a barrier, so that
/// the next may read what the others wrote.
class Encoder::Pass {
 public:
  Pass(const Encoder& encoder, const RaggedBatch& batch, EncoderBuffers& buffers, const Team& team,
       const EncoderAdapters* adapters)
      : spec_(encoder.spec_),
        weights_(encoder.weights_),
        batch_(batch),
        b_(buffers),
        team_(team),
        adapters_(adapters),
        floats_(simd::product_rows_are_floats(weights_.products)) {}

  void run() {
    embed();
    for (std::size_t i = 0; i < spec_.layers; ++i) {
      const EncoderLayer& layer = weights_.layers[i];
      multiply_qkv(layer, i);
      attend(layer);
      add(layer.output, attended(), width(), lora({WeightRole::o, index(i)}, b_.attended_, width()));
      normalize(layer.attention_norm, layer.mlp_pre_norm);
      multiply_up(layer, i);
      add(layer.down, b_.activated_, spec_.intermediate,
          lora({WeightRole::down, index(i)}, b_.exact_activated_, spec_.intermediate));
      normalize(layer.mlp_norm,
                i + 1 < spec_.layers ? weights_.layers[i + 1].attention_pre_norm : LayerNorm{});
    }
  }

 private:
  std::size_t rows() const { return batch_.tokens.size(); }
  std::size_t hidden() const { return spec_.hidden; }
  std::size_t width() const { return std::size_t{spec_.heads} * spec_.head_dim; }
  ProductRows product_rows(std::byte* data, std::size_t k) const { return {weights_.products, k, data}; }
  // Products of floats take hidden_ and attended_ as they are; other ones take x_, which holds one of them.
  ProductRows input(const LayerNorm& pre_norm) const {
    const bool as_is = floats_ && pre_norm.weight.empty();
    return product_rows(as_is ? reinterpret_cast<std::byte*>(b_.hidden_) : b_.x_, hidden());
  }
  std::byte* attended() const { return floats_ ? reinterpret_cast<std::byte*>(b_.attended_) : b_.x_; }
  static std::uint32_t index(std::size_t layer) { return static_cast<std::uint32_t>(layer); }

  // What adapters do to the layer that is reached by `id`, ready to be applied to the products of x [rows,
  // k].
  std::optional<LoraEpilogue> lora(WeightId id, const float* x, std::size_t k) const {
    const LoraCall* call = adapters_ ? adapters_->at(adapter_place(id).place) : nullptr;
    if (!call) return std::nullopt;
    LoraEpilogue out(*call, x, k, b_.lora_);
    const auto [begin, end] = team_.share(rows());
    out.shrink(begin, end - begin);
    team_.barrier();
    return out;
  }
  static DenseLora epilogue(const std::optional<LoraEpilogue>& lora, std::size_t first_segment = 0) {
    return {lora ? &*lora : nullptr, first_segment};
  }
  // The f32 values behind x_ after normalize(); only with adapters.
  const float* exact_x(const LayerNorm& pre_norm) const {
    return pre_norm.weight.empty() ? b_.hidden_ : b_.exact_x_;
  }

  void embed() {
    const Team::Share own = team_.share(rows());
    float* part = b_.row_ + team_.index * 2 * hidden();
    std::size_t s = 0;
    for (std::size_t r = own.begin; r < own.end; ++r) {
      while (batch_.begin[s + 1] <= r) ++s;
      float* h = b_.hidden_ + r * hidden();
      weights_.words.read(static_cast<std::size_t>(batch_.tokens[r]), hidden(), h);
      if (const LoraCall* call = adapters_ ? adapters_->at(table_place()) : nullptr)
        apply_to_embedding(*call, r, static_cast<std::size_t>(batch_.tokens[r]), hidden(), h);
      const auto add_row = [&](const EmbeddingTable& table, std::size_t row) {
        if (table.tensor == nullptr) return;
        table.read(row, hidden(), part);
        simd::add(h, part, hidden());
      };
      add_row(weights_.types, batch_.types.empty() ? 0 : batch_.types[r]);
      add_row(weights_.positions, r - batch_.begin[s] + spec_.position_offset);
    }
    normalize(weights_.embedding_norm, weights_.layers.front().attention_pre_norm);
  }

  std::size_t table_place() const { return adapter_place({WeightRole::embedding}).place; }

  // h = norm(h), x = pre_norm(h), row by row.
  void normalize(const LayerNorm& norm, const LayerNorm& pre_norm) {
    const Team::Share own = team_.share(rows());
    const ProductRows x = input(pre_norm);
    float* normalized = b_.row_ + team_.index * 2 * hidden();
    for (std::size_t r = own.begin; r < own.end; ++r) {
      float* h = b_.hidden_ + r * hidden();
      if (!norm.weight.empty()) apply(norm, h, h);
      if (pre_norm.weight.empty()) {
        if (!floats_) x.store(r, 0, h, hidden());
      } else {
        if (adapters_) normalized = b_.exact_x_ + r * hidden();
        apply(pre_norm, h, normalized);
        x.store(r, 0, normalized, hidden());
      }
    }
    team_.barrier();
  }
  void apply(const LayerNorm& norm, const float* x, float* out) const {
    if (spec_.rms_norm) return simd::rms_norm(x, norm.weight.data(), spec_.norm_eps, hidden(), out);
    simd::layer_norm(x, norm.weight.data(), norm.bias.empty() ? nullptr : norm.bias.data(), spec_.norm_eps,
                     hidden(), out);
  }

  void multiply_qkv(const EncoderLayer& layer, std::size_t i) {
    const auto added = lora({WeightRole::q, index(i)}, exact_x(layer.attention_pre_norm), hidden());
    layer.qkv.store(input(layer.attention_pre_norm), rows(), team_, b_.qkv_, qkv_width(spec_),
                    epilogue(added));
    team_.barrier();
  }

  void attend(const EncoderLayer& layer) {
    const std::size_t tasks = batch_.sequences() * spec_.kv_heads;
    std::byte* scratch = b_.heads_ + team_.index * b_.head_bytes_;
    for (std::size_t task = team_.index; task < tasks; task += team_.size) {
      const std::size_t s = task / spec_.kv_heads, first = batch_.begin[s];
      layer.attention.attend(b_.qkv_ + first * qkv_width(spec_), batch_.length(s), task % spec_.kv_heads,
                             scratch, b_.attended_ + first * width());
    }
    team_.barrier();
    if (floats_) return;
    const ProductRows x = product_rows(b_.x_, width());
    const auto [begin, end] = team_.share(rows());
    for (std::size_t r = begin; r < end; ++r) x.store(r, 0, b_.attended_ + r * width(), width());
    team_.barrier();
  }

  void multiply_up(const EncoderLayer& layer, std::size_t i) {
    const auto added = lora({WeightRole::up, index(i)}, exact_x(layer.mlp_pre_norm), hidden());
    // An adapter's gate is what is activated, and its up the other matrix or the only one.
    const std::size_t gate = adapter_place({WeightRole::gate}).segment,
                      up = adapter_place({WeightRole::up}).segment;
    const ProductRows x = input(layer.mlp_pre_norm), out = product_rows(b_.activated_, spec_.intermediate);
    const bool as_is = floats_ && spec_.activation == Activation::gelu && !spec_.gated_mlp && !adapters_;
    // A member computes the same columns of both matrices.
    if (spec_.gated_mlp)
      layer.gate.store(x, rows(), team_, b_.gate_, spec_.intermediate, epilogue(added, up));
    layer.up.apply(
        x, rows(), team_,
        [&](const DensePiece& piece) {
          if (as_is) return piece.store_gelu(reinterpret_cast<float*>(b_.activated_), spec_.intermediate);
          float* values = activated(spec_.activation, piece);
          for (std::size_t r = 0; r < piece.rows; ++r) {
            float* from = values + r * piece.stride;
            const std::size_t at = (piece.row + r) * spec_.intermediate + piece.column;
            if (spec_.gated_mlp)
              for (std::size_t c = 0; c < piece.columns; ++c) from[c] *= b_.gate_[at + c];
            out.store(piece.row + r, piece.column, from, piece.columns);
            if (adapters_) std::copy_n(from, piece.columns, b_.exact_activated_ + at);
          }
        },
        epilogue(added, spec_.gated_mlp ? gate : up));
    team_.barrier();
  }

  // h += layer(x).
  void add(const DenseLayer& layer, std::byte* x, std::size_t k, const std::optional<LoraEpilogue>& lora) {
    layer.add(product_rows(x, k), rows(), team_, b_.hidden_, hidden(), epilogue(lora));
    team_.barrier();
  }

  const EncoderSpec& spec_;
  const EncoderWeights& weights_;
  const RaggedBatch& batch_;
  EncoderBuffers& b_;
  const Team& team_;
  const EncoderAdapters* adapters_;
  const bool floats_;
};

Encoder::Encoder(EncoderSpec spec, EncoderWeights weights)
    : spec_(std::move(spec)), weights_(std::move(weights)) {
  for (std::size_t i = 0; i < spec_.inv_freq.size(); ++i) rope_.push_back(std::make_unique<RopeTable>());
  for (std::size_t i = 0; i < spec_.layers; ++i) {
    SequenceAttention& a = weights_.layers[i].attention;
    a.heads = spec_.heads;
    a.kv_heads = spec_.kv_heads;
    a.head_dim = spec_.head_dim;
    a.causal = spec_.causal;
    if (spec_.head_norms) {
      a.q_norm = weights_.layers[i].q_norm.data();
      a.k_norm = weights_.layers[i].k_norm.data();
      a.norm_eps = spec_.norm_eps;
    }
    a.window = spec_.window.empty() ? 0 : spec_.window[i];
    a.type = weights_.products == Products::f32 ? simd::KvType::f32 : simd::KvType::bf16;
    if (!spec_.rope.empty()) a.rope = rope_[static_cast<std::size_t>(spec_.rope[i])].get();
    if (!weights_.relative_bias.empty()) {
      a.relative_bias = weights_.relative_bias.data();
      a.bias_reach = spec_.max_length - 1;
    }
  }
}

std::size_t Encoder::attention_bytes(std::size_t longest) const {
  std::size_t bytes = 0;
  for (const EncoderLayer& layer : weights_.layers)
    bytes = std::max(bytes, layer.attention.scratch_bytes(longest));
  return bytes;
}

void Encoder::reserve_positions(std::size_t longest) {
  for (std::size_t i = 0; i < rope_.size(); ++i) rope_[i]->reserve(longest, spec_.inv_freq[i]);
}

void Encoder::read_row(WeightId id, std::size_t row, float* out) const {
  if (id.role == WeightRole::embedding) return weights_.words.read(row, spec_.hidden, out);
  const EncoderLayer& layer = weights_.layers[id.layer];
  const std::size_t width = std::size_t{spec_.heads} * spec_.head_dim,
                    kv_width = std::size_t{spec_.kv_heads} * spec_.head_dim;
  switch (id.role) {
    case WeightRole::q:
    case WeightRole::qkv: return layer.qkv.read_row(row, out);
    case WeightRole::k: return layer.qkv.read_row(width + row, out);
    case WeightRole::v: return layer.qkv.read_row(width + kv_width + row, out);
    case WeightRole::o: return layer.output.read_row(row, out);
    case WeightRole::gate: return layer.up.read_row(row, out);
    case WeightRole::up: return (spec_.gated_mlp ? layer.gate : layer.up).read_row(row, out);
    case WeightRole::gate_up:
      return row < spec_.intermediate ? layer.up.read_row(row, out)
                                      : layer.gate.read_row(row - spec_.intermediate, out);
    default: return layer.down.read_row(row, out);
  }
}

void Encoder::forward(const RaggedBatch& batch, EncoderBuffers& buffers, const Team& team,
                      const EncoderAdapters* adapters) const {
  Pass(*this, batch, buffers, team, adapters).run();
}

}  // namespace metal_candle
