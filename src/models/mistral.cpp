// Mistral 7B (arXiv:2310.06825): Llama with a sliding window, which the config already gives per layer.
#include "models/registry.h"

namespace metal_candle {

DecoderSpec mistral_spec(const ModelConfig& config) { return common_decoder_spec(config); }

}  // namespace metal_candle
