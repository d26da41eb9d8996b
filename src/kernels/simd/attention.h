// Scaled dot-product attention of one kv head with its group of query heads, against a cache in the layout of
// attention_kv.h: online softmax blocked over keys (arXiv:2205.14135), f32 accumulation. One thread a call;
// callers split work over kv heads, rows and (decoding) key ranges.
#pragma once

#include <cstddef>

#include "kernels/simd/attention_kv.h"

namespace metal_candle::simd {

inline constexpr std::size_t kMaxHeadDim = 256;

/// What all heads of a layer share.
struct AttentionParams {
  std::size_t head_dim;  ///< 1 to kMaxHeadDim
  std::size_t group;     ///< query heads per kv head
  float scale;           ///< usually 1/sqrt(head_dim)
  float softcap = 0;     ///< if > 0: score = softcap * tanh(score / softcap) (Gemma 2)
  bool causal = true;    ///< false: every row sees all `length` keys (encoders)
  std::size_t window =
      0;  ///< if > 0: position i sees only keys j > i - window; bidirectional: |i - j| < window
  /// If set: relative_bias[j - i] is added to the scaled score of position i with key j (MPNet).
  const float* relative_bias = nullptr;
};

/// One head's cache.
struct KvHead {
  KvType type;
  const void* keys;
  const void* values;
};

/// f32 vectors [row][head of the group][head_dim]: element d of head h in row r is
/// data[r * row_stride + h * head_stride + d].
template <class T>
struct HeadRows {
  T* data;
  std::size_t row_stride;
  std::size_t head_stride;
};

/// Rows of a prompt, a chunk of one, or an encoder's sequence: row r is at position first + r and sees keys
/// j < length with j <= first + r if causal (its own key is already stored), within the window. Unless
/// `exact`, a 16-bit cache, queries and probabilities are multiplied as bfloat16 where the CPU can; an f16
/// cache is then copied once a call, into memory that the thread keeps. With AVX512-FP16 an f16 cache without
/// softcap and bias is multiplied as float16 instead, and a bf16 one in f32.
/// Each row must see at least one key. A NaN in a row's query, or in a key or value it sees, makes NaNs in
/// that row's output and in no other row.
void attend(const AttentionParams& params, const KvHead& kv, HeadRows<const float> q, std::size_t rows,
            std::size_t first, std::size_t length, HeadRows<float> out, bool exact = false);

/// Floats that attend_part writes for `heads` query heads.
constexpr std::size_t attention_part_floats(std::size_t head_dim, std::size_t heads) {
  return heads * (head_dim + 2);
}

/// Split-key decoding: the row at `position` of all `group` heads against keys [begin, end) only (cut to what
/// the row may see). Writes per head head_dim + 2 floats: the unnormalised sum of values, the largest score m
/// and the sum l of exp(score - m). An empty range gives zeros, m = -infinity.
void attend_part(const AttentionParams& params, const KvHead& kv, HeadRows<const float> q,
                 std::size_t position, std::size_t begin, std::size_t end, float* part);

/// Combines `parts` results of attend_part for one head: part p begins at part + p * stride. out[head_dim].
void merge_parts(const float* part, std::size_t stride, std::size_t parts, std::size_t head_dim, float* out);

}  // namespace metal_candle::simd
