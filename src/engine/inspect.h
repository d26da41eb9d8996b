// What a checkpoint says of itself, without loading it, in the terms of the public API.
#pragma once

#include "kernels/simd/attention_kv.h"
#include "metal_candle/model.h"
#include "models/checkpoint.h"

namespace metal_candle {

/// The cache's own name for the public type. Throws Error(invalid_argument) for a value outside the enum.
simd::KvType kv_type_of(KvDType type);

/// `tokenizer`: what checkpoint.tokenizer() gave, which is costly to build; may be null.
ModelInfo describe_checkpoint(const Checkpoint& checkpoint, const Tokenizer* tokenizer);

}  // namespace metal_candle
