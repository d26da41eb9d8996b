// Qwen2 and Qwen2.5 (arXiv:2407.10671): biases on queries, keys and values.
#include "models/registry.h"

namespace metal_candle {

DecoderSpec qwen2_spec(const ModelConfig& config) {
  DecoderSpec spec = common_decoder_spec(config);
  spec.qkv_bias = true;
  return spec;
}

}  // namespace metal_candle
