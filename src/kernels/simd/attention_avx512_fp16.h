// Attention in float16 (AVX512-FP16): of whole sequences for encoders, where every row sees every other, and
// of a decoder's prompts over an f16 cache.
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

/// A query vector of head_dim floats, where its result goes, and the keys [begin, end) that it sees, one at
/// least.
struct HalfLane {
  const float* q;
  float* out;
  std::size_t begin, end;
};
inline constexpr std::size_t kHalfLanes = 32;

/// `count` query vectors, kHalfLanes at most, of one kv head over a cache of type f16 (attention_kv.h). Of
/// `params` head_dim and scale. Products of 32 dimensions are summed in float16, then such sums; values as
/// above. Bit i of the result: vector i met scores or values that are too large for float16, so its result
/// must be computed otherwise. No vector's result or bit depends on the others'.
std::uint32_t half_attend_cached(const AttentionParams& params, const void* keys, const void* values,
                                 const HalfLane* lanes, std::size_t count);

}  // namespace metal_candle::simd
