// Which architectures are known: name -> function from a checkpoint's config to a DecoderSpec.
#pragma once

#include <string>
#include <vector>

#include "models/decoder_spec.h"
#include "models/model_config.h"

namespace metal_candle {

/// Throws Error(unsupported) listing the known architectures.
DecoderSpec make_decoder_spec(const ModelConfig& config);

/// In alphabetical order.
std::vector<std::string> known_architectures();
bool is_decoder(const std::string& architecture);

/// The parts that every architecture shares. Architectures start from it.
DecoderSpec common_decoder_spec(const ModelConfig& config);

// One file each.
DecoderSpec llama_spec(const ModelConfig& config);
DecoderSpec mistral_spec(const ModelConfig& config);
DecoderSpec qwen2_spec(const ModelConfig& config);
DecoderSpec qwen3_spec(const ModelConfig& config);

}  // namespace metal_candle
