#include "io/weight_names.h"

#include <array>
#include <charconv>

namespace metal_candle {
namespace {

struct Names {
  const char* hugging_face;
  const char* gguf;
};

// Indexed by WeightRole; those of a layer follow its prefix. The last three no decoder has.
constexpr std::array<Names, kWeightRoles> kNames{{
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
    {"", ""},
    {"", ""},
    {"", ""},
}};

constexpr const char* layer_prefix(NameScheme scheme) {
  return scheme == NameScheme::hugging_face ? "model.layers." : "blk.";
}

}  // namespace

std::string weight_name(NameScheme scheme, WeightRole role, std::uint32_t layer) {
  const Names& names = kNames[static_cast<std::size_t>(role)];
  const bool hf = scheme == NameScheme::hugging_face;
  if (!*names.gguf) return {};
  std::string prefix;
  if (is_of_layer(role)) prefix = layer_prefix(scheme) + std::to_string(layer) + ".";
  return prefix + (hf ? names.hugging_face : names.gguf);
}

std::optional<WeightId> parse_weight_name(NameScheme scheme, std::string_view name) {
  const std::string_view prefix = layer_prefix(scheme);
  WeightId id;
  std::string_view rest = name;
  const bool in_layer = rest.starts_with(prefix);
  if (in_layer) {
    rest.remove_prefix(prefix.size());
    const auto number = std::from_chars(rest.data(), rest.data() + rest.size(), id.layer);
    if (number.ec != std::errc()) return std::nullopt;
    rest.remove_prefix(static_cast<std::size_t>(number.ptr - rest.data()));
    if (!rest.starts_with('.')) return std::nullopt;
    rest.remove_prefix(1);
  }
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    const bool of_layer = is_of_layer(static_cast<WeightRole>(i));
    const char* wanted = scheme == NameScheme::hugging_face ? kNames[i].hugging_face : kNames[i].gguf;
    if (of_layer != in_layer || !*wanted || rest != wanted) continue;
    id.role = static_cast<WeightRole>(i);
    // "model.layers.007" is no name of ours: only what weight_name() writes.
    if (weight_name(scheme, id) != name) return std::nullopt;
    return id;
  }
  return std::nullopt;
}

}  // namespace metal_candle
