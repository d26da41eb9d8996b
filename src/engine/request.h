// From the public prompt and options to the engine's request, for every kind of stream. Not public.
#pragma once

#include <cstddef>

#include "inference/generation.h"
#include "metal_candle/generate.h"

namespace metal_candle {

inline constexpr std::size_t kQueueCapacity = 64;  ///< Tokens the engine may run ahead of a slow consumer.

/// Tokenizes on the calling thread; Model::Impl::start checks. Throws Error(unsupported) for a text where the
/// model has no tokenizer.
GenerationRequest make_request(const Model& model, const Prompt& prompt, const GenerateOptions& options);

}  // namespace metal_candle
