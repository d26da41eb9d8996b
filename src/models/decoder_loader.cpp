#include "models/decoder_loader.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "io/weight_names.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// One matrix of a layer: its role and the shape [n, k] that the spec demands.
struct Matrix {
  WeightRole role;
  std::size_t n;
  std::size_t k;
  std::size_t rotary_heads = 0;  // rows come in so many heads that are rotated (q and k); 0: none
};

class Loader {
 public:
  Loader(const WeightStore& store, const DecoderSpec& spec, const std::function<void(double)>& progress)
      : store_(store),
        spec_(spec),
        progress_(progress),
        scheme_(store.gguf() ? NameScheme::gguf : NameScheme::hugging_face) {}

  std::unique_ptr<Decoder> load() {
    const bool tied = shares_embedding();
    DecoderWeights w;
    w.arena = std::make_unique<WeightArena>(packed_bytes(tied));
    arena_ = w.arena.get();
    w.layers.reserve(spec_.layers);
    for (std::uint32_t i = 0; i < spec_.layers; ++i) w.layers.push_back(layer(i));
    w.embedding = pack({{WeightRole::embedding, spec_.vocab, spec_.hidden}}, 0);
    LinearSpec head;
    head.weight = tied ? w.embedding : pack({{WeightRole::lm_head, spec_.vocab, spec_.hidden}}, 0);
    head.norm = norm(WeightRole::final_norm, 0);
    head.refined = 1;
    w.head = Linear(std::move(head), place(WeightRole::lm_head, 0));
    return std::make_unique<Decoder>(spec_, std::move(w));
  }

 private:
  using Matrices = std::vector<Matrix>;

  Matrices qkv() const {
    const std::size_t d = spec_.head_dim, h = spec_.hidden;
    return {{WeightRole::q, spec_.heads * d, h, spec_.heads},
            {WeightRole::k, spec_.kv_heads * d, h, spec_.kv_heads},
            {WeightRole::v, spec_.kv_heads * d, h}};
  }
  Matrices output() const {
    return {{WeightRole::o, spec_.hidden, std::size_t{spec_.heads} * spec_.head_dim}};
  }
  Matrices gate_up() const {
    return {{WeightRole::gate, spec_.intermediate, spec_.hidden},
            {WeightRole::up, spec_.intermediate, spec_.hidden}};
  }
  Matrices down() const { return {{WeightRole::down, spec_.hidden, spec_.intermediate}}; }

  std::size_t place(WeightRole role, std::uint32_t layer) const {
    return adapter_place({role, layer}, spec_.layers).place;
  }

  bool shares_embedding() const {
    const bool has_head = store_.find(weight_name(scheme_, WeightRole::lm_head) + ".weight") != nullptr;
    return spec_.tied_embeddings || (!has_head && scheme_ == NameScheme::gguf);
  }

  std::size_t packed_bytes(bool tied) const {
    std::size_t bytes = 0;
    const auto add = [&](const Matrices& matrices, std::uint32_t layer) {
      for (const Matrix& m : matrices) {
        const MatrixSource source = this->source(m, layer);
        bytes += PackedLinear::packed_bytes({&source, 1});
      }
    };
    for (std::uint32_t i = 0; i < spec_.layers; ++i)
      for (const Matrices& matrices : {qkv(), output(), gate_up(), down()}) add(matrices, i);
    add({{WeightRole::embedding, spec_.vocab, spec_.hidden}}, 0);
    if (!tied) add({{WeightRole::lm_head, spec_.vocab, spec_.hidden}}, 0);
    return bytes;
  }

  DecoderLayer layer(std::uint32_t i) {
    DecoderLayer out;
    LinearSpec spec = linear(qkv(), i);
    spec.norm = norm(WeightRole::attn_norm, i);
    spec.refined =
        1 << 2;  // the values: what int8 rounds off them is most of what it costs (docs/architecture.md)
    out.qkv = Linear(std::move(spec), place(WeightRole::q, i));

    AttentionSpec attention;
    attention.heads = spec_.heads;
    attention.kv_heads = spec_.kv_heads;
    attention.head_dim = spec_.head_dim;
    attention.scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
    attention.window = spec_.window_of(i);
    attention.norm_eps = spec_.norm_eps;
    if (spec_.qk_norm) {
      attention.q_norm = vector(name(WeightRole::q_norm, i) + ".weight", spec_.head_dim);
      attention.k_norm = vector(name(WeightRole::k_norm, i) + ".weight", spec_.head_dim);
    }
    out.attention = std::make_shared<const AttentionSpec>(std::move(attention));
    out.output = Linear(linear(output(), i), place(WeightRole::o, i));

    spec = linear(gate_up(), i);
    spec.norm = norm(WeightRole::mlp_norm, i);
    spec.swiglu = true;
    out.gate_up = Linear(std::move(spec), place(WeightRole::gate, i));
    out.down = Linear(linear(down(), i), place(WeightRole::down, i));
    return out;
  }

  LinearSpec linear(const Matrices& matrices, std::uint32_t layer) {
    LinearSpec spec;
    spec.weight = pack(matrices, layer);
    spec.bias = bias(matrices, layer);
    return spec;
  }

  // Biases are used wherever the file has them; missing ones are an error only where the architecture has
  // one.
  std::vector<float> bias(const Matrices& matrices, std::uint32_t layer) const {
    std::vector<float> out;
    for (const Matrix& m : matrices) {
      const std::string tensor = name(m.role, layer) + ".bias";
      if (!expects_bias(m.role) && !store_.find(tensor)) continue;
      const std::vector<float> stored = vector(tensor, m.n);
      const auto row = row_map(m);
      for (std::size_t i = 0; i < m.n; ++i) out.push_back(stored[row ? row(i) : i]);
    }
    std::size_t n = 0;
    for (const Matrix& m : matrices) n += m.n;
    if (!out.empty() && out.size() != n)
      fail(name(matrices.front().role, layer) + ".bias", "some of the stacked biases are missing");
    return out;
  }

  bool expects_bias(WeightRole role) const {
    if (role == WeightRole::q || role == WeightRole::k || role == WeightRole::v) return spec_.qkv_bias;
    return role == WeightRole::o ? spec_.output_bias : spec_.mlp_bias;
  }

  std::shared_ptr<const RmsNormWeight> norm(WeightRole role, std::uint32_t layer) const {
    return std::make_shared<const RmsNormWeight>(
        RmsNormWeight{vector(name(role, layer) + ".weight", spec_.hidden), spec_.norm_eps});
  }

  std::shared_ptr<const PackedLinear> pack(const Matrices& matrices, std::uint32_t layer) {
    std::vector<MatrixSource> sources;
    for (const Matrix& m : matrices) sources.push_back(source(m, layer));
    auto packed = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, *arena_));
    for (const Matrix& m : matrices) store_.release(tensor(name(m.role, layer) + ".weight"));
    for (const MatrixSource& s : sources) done_ += s.data.size() + s.scales.size() + s.biases.size();
    if (progress_) progress_(static_cast<double>(done_) / static_cast<double>(store_.total_bytes()));
    return packed;
  }

  MatrixSource source(const Matrix& m, std::uint32_t layer) const {
    const std::string base = name(m.role, layer);
    if (store_.find(base + ".scales")) return affine_source(m, base);
    const StoredTensor& t = tensor(base + ".weight", {m.n, m.k});
    if (!simd::linear_supports(t.dtype))
      throw Error(ErrorCode::unsupported, store_.path().string() + ": " + t.name + ": element type " +
                                              std::string(metal_candle::name(t.dtype)) + " has no kernel");
    return {t.dtype, m.n, m.k, t.data, {}, {}, row_map(m)};
  }

  // MLX's affine quantization: bits and group follow from the shapes of codes and scales.
  MatrixSource affine_source(const Matrix& m, const std::string& base) const {
    const StoredTensor& codes = tensor(base + ".weight");
    const StoredTensor& scales = tensor(base + ".scales");
    const auto shape_of = [&](const StoredTensor& t) {
      return t.shape.size() == 2 && t.shape[0] == m.n ? t.shape[1] : 0;
    };
    const std::uint64_t words = shape_of(codes), groups = shape_of(scales);
    if (codes.dtype != DType::u32 || words == 0 || groups == 0 || words * 32 % m.k != 0 || m.k % groups != 0)
      fail(codes.name, "shape " + shape_text(codes) + " with scales " + shape_text(scales) +
                           " is no affine quantization of [" + std::to_string(m.n) + ", " +
                           std::to_string(m.k) + "]");
    const StoredTensor& biases = tensor(base + ".biases", scales.shape);
    const std::uint64_t bits = words * 32 / m.k, group = m.k / groups;
    if ((bits != 4 && bits != 8) || (group != 32 && group != 64 && group != 128) ||
        biases.dtype != scales.dtype)
      unsupported_affine(codes.name, bits, group);
    const auto format = simd::WeightFormat::affine(static_cast<std::uint8_t>(bits),
                                                   static_cast<std::uint16_t>(group), scales.dtype);
    if (!simd::linear_supports(format)) unsupported_affine(codes.name, bits, group);
    return {format, m.n, m.k, codes.data, scales.data, biases.data, row_map(m)};
  }

  [[noreturn]] void unsupported_affine(const std::string& tensor, std::uint64_t bits,
                                       std::uint64_t group) const {
    throw Error(ErrorCode::unsupported,
                store_.path().string() + ": " + tensor + ": " + std::to_string(bits) +
                    "-bit quantization in groups of " + std::to_string(group) +
                    " is not supported (4 and 8 bits in groups of 32, 64, 128 with float scales are)");
  }

  // llama-architecture GGUF files interleave the two halves of each rotated head (llama.cpp's converter); we
  // keep Hugging Face's order, in which adapters are written too.
  std::function<std::size_t(std::size_t)> row_map(const Matrix& m) const {
    if (m.rotary_heads == 0 || scheme_ != NameScheme::gguf || spec_.architecture != "llama") return {};
    const std::size_t d = spec_.head_dim, half = d / 2;
    return [d, half](std::size_t row) {
      const std::size_t within = row % d;
      return row - within + 2 * (within % half) + within / half;
    };
  }

  const StoredTensor& tensor(const std::string& wanted) const {
    const StoredTensor* found = store_.find(wanted);
    if (!found) fail(wanted, "is missing");
    return *found;
  }
  const StoredTensor& tensor(const std::string& wanted, const std::vector<std::uint64_t>& shape) const {
    const StoredTensor& found = tensor(wanted);
    if (found.shape != shape)
      fail(wanted, "expected shape " + shape_text(shape) + ", got " + shape_text(found));
    return found;
  }

  std::vector<float> vector(const std::string& wanted, std::size_t n) const {
    const StoredTensor& found = tensor(wanted, {n});
    if (!simd::can_dequantize(found.dtype)) fail(wanted, "expected float values");
    std::vector<float> out(n);
    simd::dequantize(found.dtype, found.data.data(), out.data(), n);
    return out;
  }

  std::string name(WeightRole role, std::uint32_t layer) const { return weight_name(scheme_, role, layer); }

  static std::string shape_text(const std::vector<std::uint64_t>& shape) {
    std::string text = "[";
    for (std::size_t i = 0; i < shape.size(); ++i)
      text.append(i ? ", " : "").append(std::to_string(shape[i]));
    return text + "]";
  }
  static std::string shape_text(const StoredTensor& t) { return shape_text(t.shape); }

  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const {
    throw Error(ErrorCode::malformed_file, store_.path().string() + ": " + tensor + ": " + what);
  }

  const WeightStore& store_;
  const DecoderSpec& spec_;
  const std::function<void(double)>& progress_;
  const NameScheme scheme_;
  WeightArena* arena_ = nullptr;
  std::size_t done_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> load_decoder(const WeightStore& store, const DecoderSpec& spec,
                                      const std::function<void(double)>& progress) {
  return Loader(store, spec, progress).load();
}

}  // namespace metal_candle
