// What a checkpoint says of itself, without loading it.
#pragma once

#include "metal_candle/model.h"
#include "models/checkpoint.h"

namespace metal_candle {

ModelInfo describe_checkpoint(const Checkpoint& checkpoint);

}  // namespace metal_candle
