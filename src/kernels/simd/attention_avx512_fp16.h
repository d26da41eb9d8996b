// Attention in float16 (AVX512-FP16) for encoders: every row of a sequence sees every other.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simd/attention.h"

namespace metal_candle::simd {

inline constexpr std::size_t kMaxHalfHeadDim = 128;  // products that are summed in float16

/// Bytes of the scratch that half_attend takes for a sequence.
constexpr std::size_t half_attention_bytes(std::size_t head_dim, std::size_t length) {
  return 2 * length * ((head_dim + 31) / 32 * 32) * sizeof(std::uint16_t);
}

/// One kv head of one sequence with its query heads: keys and values are rows of head_dim floats, `stride`
/// apart. Of `params` head_dim (at most kMaxHalfHeadDim), group and scale. Scores in float16 within 2^-8 of
/// their size, probabilities within 2^-10; sums of 128 values in float16, of such sums in f32. Scores beyond
/// 45,000 and values beyond 8,000 overflow. A NaN stays in the rows that see it. scratch: 64-byte aligned.
void half_attend(const AttentionParams& params, HeadRows<const float> q, const float* keys,
                 const float* values, std::size_t stride, std::size_t length, std::byte* scratch,
                 HeadRows<float> out);

}  // namespace metal_candle::simd
