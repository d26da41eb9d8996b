#include "models/decoder_sources.h"

#include <cmath>
#include <utility>

#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text.append(i ? ", " : "").append(std::to_string(shape[i]));
  return text + "]";
}
std::string shape_text(const StoredTensor& t) { return shape_text(t.shape); }

}  // namespace

DecoderShapes::Matrices DecoderShapes::qkv() const {
  const std::size_t d = spec_.head_dim, h = spec_.hidden;
  return {{WeightRole::q, spec_.heads * d, h, spec_.heads},
          {WeightRole::k, spec_.kv_heads * d, h, spec_.kv_heads},
          {WeightRole::v, spec_.kv_heads * d, h}};
}
DecoderShapes::Matrices DecoderShapes::output() const {
  return {{WeightRole::o, spec_.hidden, std::size_t{spec_.heads} * spec_.head_dim}};
}
DecoderShapes::Matrices DecoderShapes::gate_up() const {
  return {{WeightRole::gate, spec_.intermediate, spec_.hidden},
          {WeightRole::up, spec_.intermediate, spec_.hidden}};
}
DecoderShapes::Matrices DecoderShapes::down() const {
  return {{WeightRole::down, spec_.hidden, spec_.intermediate}};
}

bool DecoderSources::shares_embedding() const {
  const bool has_head = store_.find(weight_name(scheme_, WeightRole::lm_head) + ".weight") != nullptr;
  return spec_.tied_embeddings || (!has_head && scheme_ == NameScheme::gguf);
}

std::vector<float> DecoderSources::bias(const Matrices& matrices, std::uint32_t layer) const {
  std::vector<float> out;
  for (const DecoderMatrix& m : matrices) {
    const std::string tensor = name(m.role, layer) + ".bias";
    if (!expects_bias(m.role) && !store_.find(tensor)) continue;
    const std::vector<float> stored = vector(tensor, m.n);
    const auto row = row_map(m);
    for (std::size_t i = 0; i < m.n; ++i) out.push_back(stored[row ? row(i) : i]);
  }
  std::size_t n = 0;
  for (const DecoderMatrix& m : matrices) n += m.n;
  if (!out.empty() && out.size() != n)
    fail(name(matrices.front().role, layer) + ".bias", "some of the stacked biases are missing");
  return out;
}

bool DecoderSources::expects_bias(WeightRole role) const {
  if (role == WeightRole::q || role == WeightRole::k || role == WeightRole::v) return spec_.qkv_bias;
  return role == WeightRole::o ? spec_.output_bias : spec_.mlp_bias;
}

MatrixSource DecoderSources::source(const DecoderMatrix& m, std::uint32_t layer) const {
  const std::string base = name(m.role, layer);
  if (store_.find(base + ".scales")) return affine_source(m, base);
  const StoredTensor& t = tensor(base + ".weight", {m.n, m.k});
  if (!simd::linear_supports(t.dtype))
    throw Error(ErrorCode::unsupported, store_.path().string() + ": " + t.name + ": element type " +
                                            std::string(metal_candle::name(t.dtype)) + " has no kernel");
  return {t.dtype, m.n, m.k, t.data, {}, {}, row_map(m)};
}

// MLX's affine quantization: bits and group follow from the shapes of codes and scales.
MatrixSource DecoderSources::affine_source(const DecoderMatrix& m, const std::string& base) const {
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

void DecoderSources::unsupported_affine(const std::string& tensor, std::uint64_t bits,
                                        std::uint64_t group) const {
  throw Error(ErrorCode::unsupported,
              store_.path().string() + ": " + tensor + ": " + std::to_string(bits) +
                  "-bit quantization in groups of " + std::to_string(group) +
                  " is not supported (4 and 8 bits in groups of 32, 64, 128 with float scales are)");
}

// llama-architecture GGUF files interleave the two halves of each rotated head (llama.cpp's converter); we
// keep Hugging Face's order, in which adapters are written too.
std::function<std::size_t(std::size_t)> DecoderSources::row_map(const DecoderMatrix& m) const {
  if (m.rotary_heads == 0 || scheme_ != NameScheme::gguf || spec_.architecture != "llama") return {};
  const std::size_t d = spec_.head_dim, half = d / 2;
  return [d, half](std::size_t row) {
    const std::size_t within = row % d;
    return row - within + 2 * (within % half) + within / half;
  };
}

const StoredTensor& DecoderSources::tensor(const std::string& wanted) const {
  const StoredTensor* found = store_.find(wanted);
  if (!found) fail(wanted, "is missing");
  return *found;
}
const StoredTensor& DecoderSources::tensor(const std::string& wanted,
                                           const std::vector<std::uint64_t>& shape) const {
  const StoredTensor& found = tensor(wanted);
  if (found.shape != shape)
    fail(wanted, "expected shape " + shape_text(shape) + ", got " + shape_text(found));
  return found;
}

std::vector<float> DecoderSources::vector(const std::string& wanted, std::size_t n) const {
  const StoredTensor& found = tensor(wanted, {n});
  if (!simd::can_dequantize(found.dtype)) fail(wanted, "expected float values");
  std::vector<float> out(n);
  simd::dequantize(found.dtype, found.data.data(), out.data(), n);
  return out;
}

void DecoderSources::fail(const std::string& tensor, const std::string& what) const {
  throw Error(ErrorCode::malformed_file, store_.path().string() + ": " + tensor + ": " + what);
}

std::vector<MatrixSource> DecoderSources::sources(const Matrices& matrices, std::uint32_t layer) const {
  std::vector<MatrixSource> out;
  for (const DecoderMatrix& m : matrices) out.push_back(source(m, layer));
  return out;
}

std::vector<float> DecoderSources::norm(WeightRole role, std::uint32_t layer, std::size_t n) const {
  return vector(name(role, layer) + ".weight", n);
}

AttentionSpec DecoderShapes::attention(std::uint32_t layer) const {
  AttentionSpec out;
  out.heads = spec_.heads;
  out.kv_heads = spec_.kv_heads;
  out.head_dim = spec_.head_dim;
  out.scale = 1.0f / std::sqrt(static_cast<float>(spec_.head_dim));
  out.window = spec_.window_of(layer);
  out.norm_eps = spec_.norm_eps;
  return out;
}

AttentionSpec DecoderSources::attention(std::uint32_t layer) const {
  AttentionSpec out = DecoderShapes::attention(layer);
  if (spec_.qk_norm) {
    out.q_norm = norm(WeightRole::q_norm, layer, spec_.head_dim);
    out.k_norm = norm(WeightRole::k_norm, layer, spec_.head_dim);
  }
  return out;
}

void DecoderSources::release(const Matrices& matrices, std::uint32_t layer) const {
  for (const DecoderMatrix& m : matrices) store_.release(tensor(name(m.role, layer) + ".weight"));
}

}  // namespace metal_candle
