#include "models/encoder_spec.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include "models/config_reader.h"
#include "models/registry.h"

namespace metal_candle {
namespace {

Activation activation_of(const JsonReader& read, const char* key) {
  const std::string name = read.text(key, "gelu");
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") return Activation::gelu_tanh;
  if (name == "silu" || name == "swish") return Activation::silu;
  fail(ErrorCode::unsupported, read.file(), key,
       "'" + name + "' is not supported (gelu, gelu_new, silu are)");
}

// What every architecture's config.json says under the same names.
EncoderSpec common_spec(const JsonReader& read, const char* activation_key) {
  EncoderSpec s;
  s.architecture = read.text("model_type", "");
  s.layers = read.size("num_hidden_layers");
  s.hidden = read.size("hidden_size");
  s.intermediate = read.size("intermediate_size");
  s.heads = read.size("num_attention_heads");
  s.vocab = read.size("vocab_size");
  s.max_length = read.size("max_position_embeddings", 512);
  s.activation = activation_of(read, activation_key);
  if (s.hidden % s.heads != 0)
    fail(ErrorCode::malformed_file, read.file(), "hidden_size",
         std::to_string(s.hidden) + " is not a multiple of " + std::to_string(s.heads) + " heads");
  s.kv_heads = s.heads;
  s.head_dim = s.hidden / s.heads;
  return s;
}

EncoderSpec bert_spec(const JsonReader& read) {
  EncoderSpec s = common_spec(read, "hidden_act");
  s.norm_eps = static_cast<float>(read.number("layer_norm_eps", 1e-12));
  s.types = read.size("type_vocab_size", 2);
  const std::string positions = read.text("position_embedding_type", "absolute");
  if (positions != "absolute")
    fail(ErrorCode::unsupported, read.file(), "position_embedding_type",
         "'" + positions + "' is not supported (absolute is)");
  return s;
}

// Positions count from the padding token's row on.
void shift_positions(const JsonReader& read, EncoderSpec& s) {
  s.position_offset = static_cast<std::uint32_t>(std::clamp(read.number("pad_token_id", 1), 0.0, 1e6)) + 1;
  if (s.max_length <= s.position_offset)
    fail(ErrorCode::malformed_file, read.file(), "max_position_embeddings", "leaves no position");
  s.max_length -= s.position_offset;
  s.pair_separators = 2;
}

EncoderSpec roberta_spec(const JsonReader& read) {
  EncoderSpec s = bert_spec(read);
  shift_positions(read, s);
  return s;
}

EncoderSpec mpnet_spec(const JsonReader& read) {
  EncoderSpec s = common_spec(read, "hidden_act");
  s.norm_eps = static_cast<float>(read.number("layer_norm_eps", 1e-12));
  s.relative_buckets = read.size("relative_attention_num_buckets", 32);
  if (s.relative_buckets % 4 != 0)
    fail(ErrorCode::malformed_file, read.file(), "relative_attention_num_buckets", "must be a multiple of 4");
  shift_positions(read, s);
  return s;
}

std::vector<float> inverse_frequencies(double theta, std::uint32_t head_dim) {
  std::vector<float> out(head_dim / 2);
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<float>(std::pow(theta, -2.0 * static_cast<double>(i) / head_dim));
  return out;
}

// Theta of one kind of layer: transformers 5 keeps one rope_parameters per kind, earlier ones a plain key.
double modernbert_theta(const JsonReader& read, const char* kind, const char* old_key, double otherwise) {
  double theta = read.number(old_key, otherwise);
  if (const Json* all = read.find("rope_parameters"))
    if (const Json* one = JsonReader(*all, read.file()).find(kind)) {
      const JsonReader rope(*one, read.file());
      theta = rope.number("rope_theta", theta);
      if (rope.text("rope_type", "default") != "default")
        fail(ErrorCode::unsupported, read.file(), "rope_parameters", "only rope_type default is supported");
    }
  if (!(theta > 0) || theta > 1e18)
    fail(ErrorCode::malformed_file, read.file(), "rope_theta", "must be positive");
  return theta;
}

bool is_global_layer(const JsonReader& read, std::uint32_t layer, std::uint32_t layers) {
  if (const Json* types = read.find("layer_types")) {
    if (!types->is_array() || types->size() != layers)
      fail(ErrorCode::malformed_file, read.file(), "layer_types", "must name each of the layers");
    return (*types)[layer] == "full_attention";
  }
  return layer % read.size("global_attn_every_n_layers", 3) == 0;
}

EncoderSpec modernbert_spec(const JsonReader& read) {
  EncoderSpec s = common_spec(read, "hidden_activation");
  s.norm_eps = static_cast<float>(read.number("norm_eps", 1e-5));
  s.absolute_positions = false;
  s.pre_norm = true;
  s.gated_mlp = true;
  s.inv_freq = {
      inverse_frequencies(modernbert_theta(read, "full_attention", "global_rope_theta", 160000), s.head_dim),
      inverse_frequencies(modernbert_theta(read, "sliding_attention", "local_rope_theta", 10000),
                          s.head_dim)};
  const std::uint32_t reach = read.size("local_attention", 128) / 2;  // to either side
  for (std::uint32_t i = 0; i < s.layers; ++i) {
    const bool global = is_global_layer(read, i, s.layers);
    s.rope.push_back(global ? 0 : 1);
    s.window.push_back(global ? 0 : reach + 1);
  }
  return s;
}

// nomic-embed-text as it lies on the hub, in GPT-2's words; transformers 5 says the same in its own.
EncoderSpec nomic_spec(const JsonReader& read) {
  const auto either = [&](const char* hub, const char* own) {
    return read.find(hub) ? read.size(hub) : read.size(own);
  };
  EncoderSpec s;
  s.architecture = "nomic_bert";
  s.layers = either("n_layer", "num_hidden_layers");
  s.hidden = either("n_embd", "hidden_size");
  s.intermediate = either("n_inner", "intermediate_size");
  s.heads = s.kv_heads = either("n_head", "num_attention_heads");
  s.vocab = read.size("vocab_size");
  s.types = read.size("type_vocab_size", 2);
  s.max_length = read.find("max_trained_positions") ? read.size("max_trained_positions")
                                                    : read.size("max_position_embeddings", 2048);
  s.norm_eps = static_cast<float>(read.number("layer_norm_epsilon", read.number("layer_norm_eps", 1e-12)));
  if (s.hidden % s.heads != 0)
    fail(ErrorCode::malformed_file, read.file(), "n_embd",
         std::to_string(s.hidden) + " is not a multiple of " + std::to_string(s.heads) + " heads");
  s.head_dim = s.hidden / s.heads;
  s.absolute_positions = false;
  s.gated_mlp = true;
  s.activation = Activation::silu;
  const std::string activation = read.text("activation_function", "swiglu");
  if (activation != "swiglu")
    fail(ErrorCode::unsupported, read.file(), "activation_function",
         "'" + activation + "' is not supported (swiglu is)");
  if (read.boolean("prenorm", false) || read.boolean("rotary_emb_interleaved", false) ||
      read.number("rotary_emb_fraction", 1) != 1 || read.find("rotary_scaling_factor"))
    fail(ErrorCode::unsupported, read.file(), "prenorm or rotary_emb_*",
         "only nomic-embed-text's own values are supported");
  double theta = read.number("rotary_emb_base", 1000);
  if (const Json* rope = read.find("rope_parameters"))
    theta = JsonReader(*rope, read.file()).number("rope_theta", theta);
  if (!(theta > 0) || theta > 1e18)
    fail(ErrorCode::malformed_file, read.file(), "rotary_emb_base", "must be positive");
  s.inv_freq = {inverse_frequencies(theta, s.head_dim)};
  s.rope.assign(s.layers, 0);
  return s;
}

struct Factory {
  std::string_view architecture;
  EncoderSpec (*make)(const JsonReader&);
};
constexpr std::array<Factory, 7> kFactories{{{"bert", bert_spec},
                                             {"roberta", roberta_spec},
                                             {"xlm-roberta", roberta_spec},
                                             {"camembert", roberta_spec},
                                             {"mpnet", mpnet_spec},
                                             {"modernbert", modernbert_spec},
                                             {"nomic_bert", nomic_spec}}};

void check(const EncoderSpec& s, const std::string& file) {
  if (s.head_dim % 2 != 0 || s.head_dim > 256)
    fail(ErrorCode::unsupported, file, "head size",
         std::to_string(s.head_dim) + "; even sizes up to 256 are supported");
  if (!(s.norm_eps > 0) || !(s.norm_eps < 1))
    fail(ErrorCode::malformed_file, file, "layer norm epsilon", "must lie between 0 and 1");
}

}  // namespace

EncoderSpec encoder_spec_from_json(const Json& json, const std::string& file) {
  const JsonReader read(json, file);
  const std::string architecture = read.text("model_type", "");
  std::string known;
  for (const Factory& factory : kFactories) {
    if (architecture == factory.architecture) {
      const EncoderSpec spec = factory.make(read);
      check(spec, file);
      return spec;
    }
    known.append(known.empty() ? "" : ", ").append(factory.architecture);
  }
  for (const std::string& decoder : known_architectures()) known += ", " + decoder;
  throw Error(ErrorCode::unsupported, file + ": model_type: '" + architecture +
                                          "' is not a supported embedding model; known: " + known);
}

EncoderSpec encoder_spec_from_gguf(const GgufFile& gguf) {
  const GgufMetadata& meta = gguf.metadata();
  EncoderSpec s;
  s.architecture = meta.required_string("general.architecture");
  if (s.architecture != "bert" && s.architecture != "nomic-bert")
    throw Error(ErrorCode::unsupported, gguf.name() + ": general.architecture: '" + s.architecture +
                                            "' is not a supported embedding model; known: bert, nomic-bert");
  const std::string prefix = s.architecture + ".";
  const auto size = [&](const char* key, std::uint64_t limit = kMaxSize) {
    const auto value = meta.optional_u64(prefix + key);
    if (!value) fail(ErrorCode::malformed_file, gguf.name(), prefix + key, "is missing");
    return bounded(*value, limit, gguf.name(), prefix + key);
  };
  s.layers = size("block_count", kMaxLayers);
  s.hidden = size("embedding_length");
  s.intermediate = size("feed_forward_length");
  s.heads = size("attention.head_count");
  s.max_length = size("context_length");
  s.norm_eps = static_cast<float>(meta.optional_f64(prefix + "attention.layer_norm_epsilon").value_or(1e-12));
  if (s.hidden % s.heads != 0)
    fail(ErrorCode::malformed_file, gguf.name(), prefix + "attention.head_count",
         "does not divide the embedding length");
  s.kv_heads = s.heads;
  s.head_dim = s.hidden / s.heads;
  const StoredTensor* words = gguf.find("token_embd.weight");
  if (!words || words->shape.size() != 2)
    fail(ErrorCode::malformed_file, gguf.name(), "token_embd.weight",
         "a [vocabulary, hidden] tensor is needed");
  s.vocab = bounded(words->shape[0], kMaxSize, gguf.name(), "token_embd.weight");
  const StoredTensor* types = gguf.find("token_types.weight");
  if (types && types->shape.size() == 2)
    s.types = bounded(types->shape[0], kMaxSize, gguf.name(), "token_types.weight");
  if (s.architecture == "nomic-bert") {
    s.absolute_positions = false;
    s.gated_mlp = true;
    s.activation = Activation::silu;
    const double theta = meta.optional_f64(prefix + "rope.freq_base").value_or(10000);
    if (!(theta > 0))
      fail(ErrorCode::malformed_file, gguf.name(), prefix + "rope.freq_base", "must be positive");
    s.inv_freq = {inverse_frequencies(theta, s.head_dim)};
    s.rope.assign(s.layers, 0);
  }
  check(s, gguf.name());
  return s;
}

EncoderSpec encoder_spec_from_decoder(const DecoderSpec& decoder) {
  EncoderSpec s;
  s.architecture = decoder.architecture;
  s.layers = decoder.layers;
  s.hidden = decoder.hidden;
  s.intermediate = decoder.intermediate;
  s.heads = decoder.heads;
  s.kv_heads = decoder.kv_heads;
  s.head_dim = decoder.head_dim;
  s.vocab = decoder.vocab;
  s.max_length = decoder.context_length;
  s.norm_eps = decoder.norm_eps;
  s.absolute_positions = false;
  s.causal = s.rms_norm = s.pre_norm = s.gated_mlp = true;
  s.head_norms = decoder.qk_norm;
  s.activation = Activation::silu;
  s.inv_freq = {decoder.inv_freq};
  s.rope.assign(s.layers, 0);
  s.window = decoder.window;
  return s;
}

const EncoderNames& encoder_names(const EncoderSpec& spec, bool gguf) {
  if (spec.causal) return gguf ? kGgufDecoderNames : kDecoderNames;
  if (gguf) return kGgufEncoderNames;
  if (spec.architecture == "mpnet") return kMpnetNames;
  if (spec.architecture.starts_with("nomic")) return kNomicNames;
  return spec.architecture == "modernbert" ? kModernbertNames : kBertNames;
}

}  // namespace metal_candle
