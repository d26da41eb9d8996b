// What each weight of a decoder is called in a Hugging Face checkpoint and in a GGUF file.
// The only place that knows checkpoint names.
#pragma once

#include <cstdint>
#include <string>

namespace metal_candle {

enum class NameScheme { hugging_face, gguf };

enum class WeightRole {
  embedding,
  final_norm,
  lm_head,  // of the model; `layer` is ignored
  attn_norm,
  q,
  k,
  v,
  o,
  q_norm,
  k_norm,
  mlp_norm,
  gate,
  up,
  down,
};

/// E.g. (gguf, q, 3) -> "blk.3.attn_q", to which ".weight" or ".bias" is appended.
std::string weight_name(NameScheme scheme, WeightRole role, std::uint32_t layer = 0);

}  // namespace metal_candle
