#include "kernels/sequence_attention.h"

#include <cmath>

#include "kernels/simd/rope.h"

namespace metal_candle {

void RopeTable::reserve(std::size_t positions, const std::vector<float>& inv_freq) {
  const std::size_t n = inv_freq.size();
  std::size_t done = cos.size() / n;
  if (done >= positions) return;
  cos.resize(positions * n);
  sin.resize(positions * n);
  for (; done < positions; ++done)
    simd::rope_table(static_cast<std::int64_t>(done), inv_freq.data(), n, 1.0f, &cos[done * n],
                     &sin[done * n]);
}

void SequenceAttention::attend(float* qkv, std::size_t length, std::size_t head, std::byte* scratch,
                               float* out) const {
  const std::size_t width = heads * head_dim, stride = 3 * width;
  float* q = qkv + head * head_dim;
  float* k = q + width;
  const float* v = k + width;
  if (rope != nullptr) {
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t at = i * head_dim / 2;
      for (float* x : {q, k}) simd::rope_neox(x + i * stride, head_dim, &rope->cos[at], &rope->sin[at]);
    }
  }
  std::byte* values = scratch + simd::kv_bytes(type, head_dim, length);
  simd::store_keys(type, head_dim, k, stride, length, 0, scratch);
  simd::store_values(type, head_dim, v, stride, length, 0, values);
  simd::AttentionParams params{head_dim, 1, 1.0f / std::sqrt(static_cast<float>(head_dim))};
  params.causal = false;
  params.window = window;
  if (relative_bias != nullptr)
    params.relative_bias = relative_bias + head * (2 * bias_reach + 1) + bias_reach;
  simd::attend(params, {type, scratch, values}, {q, stride, head_dim}, length, 0, length,
               {out + head * head_dim, width, head_dim});
}

}  // namespace metal_candle
