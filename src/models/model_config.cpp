#include "models/model_config.h"

#include <algorithm>
#include <cstring>

#include "models/config_reader.h"

namespace metal_candle {
namespace {

std::optional<RopeScaling> scaling_from_json(const Json& json, const std::string& file) {
  const JsonReader read(json, file);
  RopeScaling s;
  s.type = read.text("rope_type", read.text("type", "default"));
  if (s.type == "default") return std::nullopt;
  if (s.type != "linear" && s.type != "llama3")
    fail(ErrorCode::unsupported, file, "rope_scaling.rope_type",
         "'" + s.type + "' is not supported (default, linear, llama3 are)");
  s.factor = read.number("factor", 1);
  s.low_freq_factor = read.number("low_freq_factor", 1);
  s.high_freq_factor = read.number("high_freq_factor", 4);
  s.original_context = read.number("original_max_position_embeddings", 8192);
  if (!(s.factor > 0) || !(s.high_freq_factor > s.low_freq_factor) || !(s.original_context > 0))
    fail(ErrorCode::malformed_file, file, "rope_scaling",
         "factors must be positive and high_freq_factor above low_freq_factor");
  return s;
}

// layer_types names each layer's reach; older files say "from layer max_window_layers on" or "all layers".
std::vector<std::uint32_t> window_from_json(const JsonReader& read, const Json& json,
                                            const ModelConfig& config) {
  if (!read.find("sliding_window") || !read.boolean("use_sliding_window", true)) return {};
  const std::uint32_t width = read.size("sliding_window");
  std::vector<std::uint32_t> window(config.layers, width);
  if (const Json* types = read.find("layer_types")) {
    if (!types->is_array() || types->size() != config.layers)
      fail(ErrorCode::malformed_file, config.file, "layer_types", "must name each of the layers");
    for (std::uint32_t i = 0; i < config.layers; ++i) {
      const Json& type = (*types)[i];
      if (type != "sliding_attention" && type != "full_attention")
        fail(ErrorCode::unsupported, config.file, "layer_types",
             type.dump(-1, ' ', true) + " is not supported");
      if (type == "full_attention") window[i] = 0;
    }
  } else if (json.contains("use_sliding_window")) {
    const double full = read.number("max_window_layers", 0);
    std::fill_n(window.begin(), static_cast<std::size_t>(std::clamp<double>(full, 0, config.layers)), 0u);
  }
  return window;
}

void check(const ModelConfig& c) {
  if (c.heads % c.kv_heads != 0)
    fail(ErrorCode::malformed_file, c.file, "attention heads",
         std::to_string(c.heads) + " query heads are not a multiple of " + std::to_string(c.kv_heads) +
             " key/value heads");
  if (c.head_dim % 2 != 0 || c.head_dim > 256)
    fail(ErrorCode::unsupported, c.file, "head_dim",
         std::to_string(c.head_dim) + "; even sizes up to 256 are supported");
  if (!(c.norm_eps > 0) || !(c.norm_eps < 1))
    fail(ErrorCode::malformed_file, c.file, "rms_norm_eps", "must lie between 0 and 1");
  if (!(c.rope_theta > 0) || c.rope_theta > 1e18)
    fail(ErrorCode::malformed_file, c.file, "rope_theta", "must be positive");
}

std::uint32_t head_dim_of(const ModelConfig& c) {
  if (c.hidden % c.heads != 0)
    fail(ErrorCode::malformed_file, c.file, "hidden size",
         std::to_string(c.hidden) + " is not a multiple of " + std::to_string(c.heads) + " heads");
  return c.hidden / c.heads;
}

}  // namespace

ModelConfig config_from_json(const Json& json, const std::string& file) {
  const JsonReader read(json, file);
  ModelConfig c;
  c.file = file;
  c.architecture = read.text("model_type", "");
  if (c.architecture.empty()) fail(ErrorCode::malformed_file, file, "model_type", "is missing");
  c.layers = read.size("num_hidden_layers");
  c.hidden = read.size("hidden_size");
  c.intermediate = read.size("intermediate_size");
  c.heads = read.size("num_attention_heads");
  c.kv_heads = read.size("num_key_value_heads", c.heads);
  c.head_dim = read.find("head_dim") ? read.size("head_dim") : head_dim_of(c);
  c.vocab = read.size("vocab_size");
  c.context_length = read.size("max_position_embeddings", 2048);
  c.norm_eps = static_cast<float>(read.number("rms_norm_eps", 1e-6));
  const std::string activation = read.text("hidden_act", "silu");
  if (activation != "silu")
    fail(ErrorCode::unsupported, file, "hidden_act", "'" + activation + "' is not supported (silu is)");
  // transformers 5 keeps all rotary settings in rope_parameters, earlier ones theta apart from rope_scaling.
  const Json* rope = read.find("rope_parameters") ? read.find("rope_parameters") : read.find("rope_scaling");
  c.rope_theta = read.number("rope_theta", 10000);
  if (rope) {
    c.rope_scaling = scaling_from_json(*rope, file);
    c.rope_theta = JsonReader(*rope, file).number("rope_theta", c.rope_theta);
  }
  if (read.number("partial_rotary_factor", 1) != 1)
    fail(ErrorCode::unsupported, file, "partial_rotary_factor", "only 1 is supported");
  for (const char* key : {"quantization", "quantization_config"})
    if (const Json* quantization = read.find(key)) {
      const std::string mode = JsonReader(*quantization, file).text("mode", "affine");
      if (mode != "affine" || quantization->contains("quant_method"))
        fail(ErrorCode::unsupported, file, key, "only MLX's affine quantization is supported");
    }
  c.attention_bias = read.boolean("attention_bias", false);
  c.mlp_bias = read.boolean("mlp_bias", false);
  if (read.find("tie_word_embeddings")) c.tied_embeddings = read.boolean("tie_word_embeddings", false);
  c.window = window_from_json(read, json, c);
  check(c);
  return c;
}

ModelConfig config_from_gguf(const GgufFile& gguf) {
  const GgufMetadata& meta = gguf.metadata();
  ModelConfig c;
  c.file = gguf.name();
  c.architecture = meta.required_string("general.architecture");
  const std::string prefix = c.architecture + ".";
  const auto size = [&](const char* key, std::optional<std::uint64_t> otherwise = {},
                        std::uint64_t limit = kMaxSize) {
    const auto value = meta.optional_u64(prefix + key);
    if (!value && !otherwise) fail(ErrorCode::malformed_file, c.file, prefix + key, "is missing");
    return bounded(value ? *value : *otherwise, limit, c.file, prefix + key);
  };
  c.layers = size("block_count", {}, kMaxLayers);
  c.hidden = size("embedding_length");
  c.intermediate = size("feed_forward_length");
  c.heads = size("attention.head_count");
  c.kv_heads = size("attention.head_count_kv", c.heads);
  c.head_dim = meta.contains(prefix + "attention.key_length") ? size("attention.key_length") : head_dim_of(c);
  c.context_length = size("context_length", 2048);
  if (size("attention.value_length", c.head_dim) != c.head_dim ||
      size("rope.dimension_count", c.head_dim) != c.head_dim)
    fail(ErrorCode::unsupported, c.file, prefix + "rope.dimension_count",
         "keys, values and rotation must have one width");
  const StoredTensor* embedding = gguf.find("token_embd.weight");
  if (!embedding || embedding->shape.size() != 2)
    fail(ErrorCode::malformed_file, c.file, "token_embd.weight", "a [vocabulary, hidden] tensor is needed");
  c.vocab = bounded(embedding->shape[0], kMaxSize, c.file, "token_embd.weight");
  c.norm_eps =
      static_cast<float>(meta.optional_f64(prefix + "attention.layer_norm_rms_epsilon").value_or(1e-5));
  c.rope_theta = meta.optional_f64(prefix + "rope.freq_base").value_or(10000);
  const std::string scaling(meta.optional_string(prefix + "rope.scaling.type").value_or("none"));
  if (scaling == "linear")
    c.rope_scaling = RopeScaling{"linear", meta.optional_f64(prefix + "rope.scaling.factor").value_or(1)};
  else if (scaling != "none")
    fail(ErrorCode::unsupported, c.file, prefix + "rope.scaling.type",
         "'" + scaling + "' is not supported (none, linear are)");
  if (c.rope_scaling && !(c.rope_scaling->factor > 0))
    fail(ErrorCode::malformed_file, c.file, prefix + "rope.scaling.factor", "must be positive");
  // llama.cpp's converter bakes Llama 3.1's scaling into a tensor of divisors.
  if (const StoredTensor* factors = gguf.find("rope_freqs.weight")) {
    if (factors->dtype != DType::f32) fail(ErrorCode::malformed_file, c.file, factors->name, "must be f32");
    c.rope_factors.resize(factors->data.size() / sizeof(float));
    std::memcpy(c.rope_factors.data(), factors->data.data(), factors->data.size());
    for (float f : c.rope_factors)
      if (!(f > 0)) fail(ErrorCode::malformed_file, c.file, factors->name, "must hold positive numbers");
  }
  if (meta.optional_u64(prefix + "attention.sliding_window").value_or(0) != 0)
    c.window.assign(c.layers, size("attention.sliding_window"));
  check(c);
  return c;
}

}  // namespace metal_candle
