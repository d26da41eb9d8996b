// What a checkpoint says of its architecture, with Hugging Face's config.json and GGUF's metadata brought to
// one vocabulary. What follows from it is decided by the architecture (registry.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/gguf.h"

namespace metal_candle {

/// Llama 3.1's frequency-dependent scaling ("llama3"), or a plain division of all frequencies ("linear").
struct RopeScaling {
  std::string type;  ///< "linear", "llama3"
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  double original_context = 8192;
};

struct ModelConfig {
  std::string file;          ///< for error messages
  std::string architecture;  ///< config.json's model_type, GGUF's general.architecture
  std::uint32_t layers = 0, hidden = 0, intermediate = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0,
                context_length = 0;
  float norm_eps = 1e-5f;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  std::vector<float> rope_factors;    ///< GGUF's rope_freqs tensor: frequencies are divided by these
  std::vector<std::uint32_t> window;  ///< per layer, 0: all positions; empty: 0 everywhere
  bool attention_bias = false;
  bool mlp_bias = false;
  std::optional<bool> tied_embeddings;  ///< empty: tied if there is no lm_head weight
};

/// Throws Error(malformed_file | unsupported) naming file and key.
ModelConfig config_from_json(const Json& json, const std::string& file);
ModelConfig config_from_gguf(const GgufFile& gguf);

}  // namespace metal_candle
