#include "models/encoder_loader.h"

#include <cmath>
#include <string>
#include <utility>

#include "io/encoder_names.h"
#include "kernels/simd/dequantize.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text.append(i ? ", " : "").append(std::to_string(shape[i]));
  return text + "]";
}

[[noreturn]] void fail(const WeightStore& store, const std::string& tensor, const std::string& what) {
  throw Error(ErrorCode::malformed_file, store.path().string() + ": " + tensor + ": " + what);
}

const StoredTensor& float_tensor(const WeightStore& store, const std::string& name,
                                 const std::vector<std::uint64_t>& shape) {
  const StoredTensor& found = store.required(name);
  if (found.shape != shape)
    fail(store, name, "expected shape " + shape_text(shape) + ", got " + shape_text(found.shape));
  if (!simd::can_dequantize(found.dtype)) fail(store, name, "expected float values");
  return found;
}

// T5's buckets for attention in both directions, half of them for each: exact up to a quarter of the buckets,
// then logarithmic up to a distance of 128 (arXiv:1910.10683; transformers' MPNet).
std::uint32_t bucket_of(int distance, std::uint32_t buckets) {
  constexpr double kFarthest = 128;
  const std::uint32_t half = buckets / 2, exact = half / 2;
  const std::uint32_t side = distance > 0 ? half : 0;
  const auto far = static_cast<std::uint32_t>(std::abs(distance));
  if (far < exact) return side + far;
  const float share = std::log(static_cast<float>(far) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(kFarthest / exact));
  const auto step = static_cast<std::uint32_t>(share * static_cast<float>(half - exact));
  return side + std::min(exact + step, half - 1);
}

class Loader {
 public:
  Loader(std::shared_ptr<const WeightStore> store, const EncoderSpec& spec, Products products)
      : store_(std::move(store)),
        spec_(spec),
        products_(products),
        names_(encoder_names(spec, store_->gguf() != nullptr)),
        prefix_(encoder_prefix(*store_, names_)) {}

  std::unique_ptr<Encoder> load() {
    EncoderWeights w;
    w.store = store_;
    w.products = products_;
    w.words = table(names_.words, spec_.vocab);
    if (spec_.absolute_positions)
      w.positions = table(names_.positions, spec_.max_length + spec_.position_offset);
    if (spec_.types > 0) w.types = table(names_.types, spec_.types);
    if (*names_.embedding_norm) w.embedding_norm = norm(prefix_ + names_.embedding_norm);
    if (spec_.relative_buckets > 0) w.relative_bias = relative_bias();
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < spec_.layers; ++i)
      for (const Matrices& m : {qkv(i), output(i), up(i), gate(i), down(i)})
        if (!m.parts.empty()) bytes += DenseLayer::packed_bytes(m.parts, products_);
    w.arena = std::make_unique<WeightArena>(bytes);
    for (std::size_t i = 0; i < spec_.layers; ++i) w.layers.push_back(layer(i, *w.arena));
    if (*names_.final_norm) w.layers.back().mlp_norm = norm(prefix_ + names_.final_norm);
    return std::make_unique<Encoder>(spec_, std::move(w));
  }

 private:
  /// Matrices that are stacked, and their biases as far as the file has them.
  struct Matrices {
    std::vector<MatrixSource> parts;
    std::vector<float> bias;
  };

  void append(Matrices& to, const std::string& name, std::size_t n, std::size_t k) const {
    to.parts.push_back(stored_matrix(*store_, name + ".weight", n, k));
    if (!store_->find(name + ".bias")) return;
    const std::vector<float> bias = load_vector(*store_, name + ".bias", n);
    to.bias.insert(to.bias.end(), bias.begin(), bias.end());
  }
  Matrices matrix(std::size_t layer, const char* name, std::size_t n, std::size_t k) const {
    Matrices out;
    append(out, prefix_ + names_.of_layer(layer, name), n, k);
    return out;
  }

  std::size_t width() const { return std::size_t{spec_.heads} * spec_.head_dim; }
  Matrices qkv(std::size_t i) const {
    const std::string whole = prefix_ + names_.of_layer(i, names_.qkv);
    const std::size_t kv_width = std::size_t{spec_.kv_heads} * spec_.head_dim;
    if (*names_.qkv && store_->find(whole + ".weight"))
      return split(matrix(i, names_.qkv, qkv_width(spec_), spec_.hidden), {width(), kv_width, kv_width});
    Matrices out;
    append(out, prefix_ + names_.of_layer(i, names_.q), width(), spec_.hidden);
    append(out, prefix_ + names_.of_layer(i, names_.k), kv_width, spec_.hidden);
    append(out, prefix_ + names_.of_layer(i, names_.v), kv_width, spec_.hidden);
    return out;
  }
  Matrices output(std::size_t i) const { return matrix(i, names_.output, spec_.hidden, width()); }
  Matrices up(std::size_t i) const {
    if (!spec_.gated_mlp) return matrix(i, names_.up, spec_.intermediate, spec_.hidden);
    return *names_.activated_gate ? half(i, 0)
                                  : matrix(i, names_.activated, spec_.intermediate, spec_.hidden);
  }
  Matrices gate(std::size_t i) const {
    if (!spec_.gated_mlp) return {};
    return *names_.activated_gate ? half(i, 1) : matrix(i, names_.gate, spec_.intermediate, spec_.hidden);
  }
  Matrices down(std::size_t i) const { return matrix(i, names_.down, spec_.hidden, spec_.intermediate); }

  // One stored matrix as several, whose bias stays one.
  static Matrices split(Matrices whole, std::initializer_list<std::size_t> rows) {
    const MatrixSource source = whole.parts.front();
    const std::size_t row_bytes = source.data.size() / source.n;
    std::size_t first = 0;
    whole.parts.clear();
    for (const std::size_t n : rows) {
      MatrixSource& part = whole.parts.emplace_back(source);
      part.n = n;
      part.data = source.data.subspan(first * row_bytes, n * row_bytes);
      first += n;
    }
    return whole;
  }
  // One of the two matrices that are stored as one.
  Matrices half(std::size_t layer, std::size_t which) const {
    Matrices out = matrix(layer, names_.activated_gate, std::size_t{2} * spec_.intermediate, spec_.hidden);
    MatrixSource& part = out.parts.front();
    part.n = spec_.intermediate;
    part.data = part.data.subspan(which * part.data.size() / 2, part.data.size() / 2);
    if (out.bias.empty()) return out;
    const auto from = out.bias.begin() + static_cast<std::ptrdiff_t>(which * spec_.intermediate);
    out.bias = std::vector<float>(from, from + spec_.intermediate);
    return out;
  }

  EncoderLayer layer(std::size_t i, WeightArena& arena) const {
    const auto pack = [&](Matrices m) {
      return DenseLayer::pack(m.parts, std::move(m.bias), products_, arena);
    };
    const auto layer_norm = [&](const char* name) {
      return *name ? norm(prefix_ + names_.of_layer(i, name)) : LayerNorm{};
    };
    EncoderLayer out;
    // ModernBERT's first layer has none: the embeddings were normalised just before.
    if (i > 0 || store_->find(prefix_ + names_.of_layer(i, names_.attention_pre_norm) + ".weight"))
      out.attention_pre_norm = layer_norm(names_.attention_pre_norm);
    out.qkv = pack(qkv(i));
    if (spec_.head_norms) {
      out.q_norm = head_norm(i, names_.q_norm);
      out.k_norm = head_norm(i, names_.k_norm);
    }
    out.output = pack(output(i));
    out.attention_norm = layer_norm(names_.attention_norm);
    out.mlp_pre_norm = layer_norm(names_.mlp_pre_norm);
    out.up = pack(up(i));
    if (spec_.gated_mlp) out.gate = pack(gate(i));
    out.down = pack(down(i));
    out.mlp_norm = layer_norm(names_.mlp_norm);
    return out;
  }

  std::vector<float> head_norm(std::size_t layer, const char* name) const {
    return load_vector(*store_, prefix_ + names_.of_layer(layer, name) + ".weight", spec_.head_dim);
  }

  LayerNorm norm(const std::string& name) const {
    LayerNorm out{load_vector(*store_, name + ".weight", spec_.hidden), {}};
    if (store_->find(name + ".bias")) out.bias = load_vector(*store_, name + ".bias", spec_.hidden);
    return out;
  }

  EmbeddingTable table(const char* name, std::size_t rows) const {
    return {&float_tensor(*store_, prefix_ + name + ".weight", {rows, spec_.hidden})};
  }

  std::vector<float> relative_bias() const {
    const std::string name = prefix_ + names_.relative_bias + ".weight";
    const StoredTensor& tensor = float_tensor(*store_, name, {spec_.relative_buckets, spec_.heads});
    std::vector<float> table(std::size_t{spec_.relative_buckets} * spec_.heads);
    simd::dequantize(tensor.dtype, tensor.data.data(), table.data(), table.size());
    const int reach = static_cast<int>(spec_.max_length) - 1;
    std::vector<float> out;
    for (std::size_t head = 0; head < spec_.heads; ++head)
      for (int distance = -reach; distance <= reach; ++distance)
        out.push_back(table[bucket_of(distance, spec_.relative_buckets) * spec_.heads + head]);
    return out;
  }

  const std::shared_ptr<const WeightStore> store_;
  const EncoderSpec& spec_;
  const Products products_;
  const EncoderNames& names_;
  const std::string prefix_;
};

}  // namespace

std::vector<float> load_vector(const WeightStore& store, const std::string& name, std::size_t n) {
  const StoredTensor& found = float_tensor(store, name, {n});
  std::vector<float> out(n);
  simd::dequantize(found.dtype, found.data.data(), out.data(), n);
  return out;
}

MatrixSource stored_matrix(const WeightStore& store, const std::string& name, std::size_t n, std::size_t k) {
  const StoredTensor& found = float_tensor(store, name, {n, k});
  MatrixSource out;
  out.format = found.dtype;
  out.n = n;
  out.k = k;
  out.data = found.data;
  return out;
}

std::unique_ptr<Encoder> load_encoder(std::shared_ptr<const WeightStore> store, const EncoderSpec& spec,
                                      Products products) {
  return Loader(std::move(store), spec, products).load();
}

}  // namespace metal_candle
