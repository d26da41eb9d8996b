// What a decoder-only transformer is, as data. A new architecture is a function that fills one of these;
// models/decoder.cpp is the only decoder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace metal_candle {

/// Shapes and switches of a pre-norm, RMSNorm, rotary, gated-SiLU decoder (Llama and its relatives).
struct DecoderSpec {
  std::string architecture;  ///< "llama", "mistral", "qwen2", "qwen3"

  std::uint32_t layers = 0;
  std::uint32_t hidden = 0;        ///< width of the residual stream
  std::uint32_t intermediate = 0;  ///< width of the gated MLP
  std::uint32_t heads = 0;         ///< query heads
  std::uint32_t kv_heads = 0;      ///< key/value heads; divides `heads`
  std::uint32_t head_dim = 0;
  std::uint32_t vocab = 0;
  std::uint32_t context_length = 0;  ///< positions the model was trained for
  float norm_eps = 1e-5f;

  /// Inverse frequencies of the rotary embedding, [head_dim / 2], any scaling already applied.
  std::vector<float> inv_freq;

  /// Per layer: a position sees at most this many positions up to itself; 0 sees all. Empty: 0 everywhere.
  std::vector<std::uint32_t> window;

  bool qkv_bias = false;
  bool output_bias = false;  ///< bias on the attention's output projection
  bool mlp_bias = false;
  bool qk_norm = false;  ///< RMSNorm over head_dim on queries and keys, before the rotation
  bool tied_embeddings = false;

  std::uint32_t window_of(std::uint32_t layer) const { return window.empty() ? 0 : window[layer]; }
};

}  // namespace metal_candle
