#include "models/weight_names.h"

#include <array>

namespace metal_candle {
namespace {

struct Names {
  const char* hugging_face;
  const char* gguf;
};

// Indexed by WeightRole; those from attn_norm on follow the layer's prefix.
constexpr std::array<Names, 14> kNames{{
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
}};

}  // namespace

std::string weight_name(NameScheme scheme, WeightRole role, std::uint32_t layer) {
  const Names& names = kNames[static_cast<std::size_t>(role)];
  const bool hf = scheme == NameScheme::hugging_face;
  std::string prefix;
  if (role >= WeightRole::attn_norm) prefix = (hf ? "model.layers." : "blk.") + std::to_string(layer) + ".";
  return prefix + (hf ? names.hugging_face : names.gguf);
}

}  // namespace metal_candle
