// LoRA that begins with the largest singular vectors of the weight (PiSSA, arXiv:2404.02948).
#pragma once

#include "training/trainable_linear.h"

namespace metal_candle {

/// Sets a and b of `lora`, whose scale is set already. W = W' + scale·B₀·A₀ with B₀·A₀ the leading part. The
/// base stays as it is: A holds A₀ to train and then A₀ frozen, B holds B₀ and then -B₀, so that their
/// product begins at zero, and the result is a LoRA of twice the rank for the plain base.
void init_pissa(const TrainableLinear& linear, std::size_t segment, std::size_t rank, std::uint64_t key,
                LoraParameters& lora);

}  // namespace metal_candle
