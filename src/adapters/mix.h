// Several adapters made one, as PEFT's add_weighted_adapter defines the ways.
#pragma once

#include <memory>
#include <span>

#include "adapters/lora_weights.h"
#include "metal_candle/adapter.h"

namespace metal_candle {

struct MixPart {
  const LoraWeights* weights = nullptr;
  double weight = 1;
};

/// Throws Error(unsupported) for anything but plain LoRA, Error(invalid_argument) for parts that do not fit
/// together or options out of range. The result is f32 with scale 1.
std::shared_ptr<const LoraWeights> mix_weights(std::span<const MixPart> parts, const MixOptions& options);

}  // namespace metal_candle
