// Qwen3 (arXiv:2505.09388): RMSNorm on each query and key head, head_dim apart from hidden / heads.
#include "models/registry.h"

namespace metal_candle {

DecoderSpec qwen3_spec(const ModelConfig& config) {
  DecoderSpec spec = common_decoder_spec(config);
  spec.qk_norm = true;
  spec.qkv_bias = spec.output_bias = config.attention_bias;
  return spec;
}

}  // namespace metal_candle
