// Llama 2, 3, 3.1, 3.2 and SmolLM2 (arXiv:2302.13971, 2307.09288, 2407.21783).
#include "models/registry.h"

namespace metal_candle {

DecoderSpec llama_spec(const ModelConfig& config) {
  DecoderSpec spec = common_decoder_spec(config);
  spec.qkv_bias = spec.output_bias = config.attention_bias;
  spec.mlp_bias = config.mlp_bias;
  return spec;
}

}  // namespace metal_candle
