// Teacher-forced scoring: what the model thought of each token of a given sequence.
#pragma once

#include <span>

#include "metal_candle/model.h"
#include "models/decoder.h"

namespace metal_candle {

/// Score of `tokens` with the `top_k` best after each, with `adapters` (null: none). Engine thread only.
/// Throws Error(invalid_argument) for no tokens or an unknown id, Error(context_overflow) beyond
/// `context_size`.
Score score_tokens(const Decoder& decoder, std::span<const std::int32_t> tokens, unsigned top_k,
                   std::size_t context_size, simd::KvType kv_type, const AdapterMix* adapters = nullptr);

}  // namespace metal_candle
