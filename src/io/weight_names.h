// What each weight of a decoder is called in a Hugging Face checkpoint and in a GGUF file, and back.
// The only place that knows checkpoint names.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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
  // Only in encoders, and only there named by io/module_names: q, k and v as one matrix, gate and up
  // likewise, and the layer on top of BERT (of the model; `layer` is ignored).
  qkv,
  gate_up,
  pooler,
};
inline constexpr unsigned kWeightRoles = static_cast<unsigned>(WeightRole::pooler) + 1;

/// Some of them: bit i is the role numbered i.
using RoleSet = std::uint32_t;
constexpr RoleSet role_bit(WeightRole role) { return RoleSet{1} << static_cast<unsigned>(role); }

/// Whether each layer has one of its own.
constexpr bool is_of_layer(WeightRole role) {
  return role >= WeightRole::attn_norm && role != WeightRole::pooler;
}

/// One weight; `layer` is 0 for those of the model.
struct WeightId {
  WeightRole role = WeightRole::embedding;
  std::uint32_t layer = 0;
  auto operator<=>(const WeightId&) const = default;
};

/// E.g. (gguf, q, 3) -> "blk.3.attn_q", to which ".weight" or ".bias" is appended.
std::string weight_name(NameScheme scheme, WeightRole role, std::uint32_t layer = 0);
inline std::string weight_name(NameScheme scheme, WeightId id) {
  return weight_name(scheme, id.role, id.layer);
}

/// The inverse: empty for any other name.
std::optional<WeightId> parse_weight_name(NameScheme scheme, std::string_view name);

}  // namespace metal_candle
