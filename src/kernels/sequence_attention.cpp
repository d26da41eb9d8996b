#include "kernels/sequence_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/simd/attention_avx512_fp16.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/rope.h"
#include "kernels/simd/target.h"

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

bool SequenceAttention::in_float16(std::size_t length) const {
  const bool whole = !causal && (window == 0 || window >= length) && relative_bias == nullptr;
  return whole && type == simd::KvType::bf16 && head_dim <= simd::kMaxHalfHeadDim &&
         simd::active_target() == simd::SimdTarget::avx512_fp16;
}

std::size_t SequenceAttention::scratch_bytes(std::size_t length) const {
  return std::max(2 * simd::kv_bytes(type, head_dim, length), simd::half_attention_bytes(head_dim, length));
}

void SequenceAttention::attend(float* qkv, std::size_t length, std::size_t kv_head, std::byte* scratch,
                               float* out) const {
  const std::size_t group = heads / kv_heads, width = heads * head_dim;
  const std::size_t stride = width + 2 * kv_heads * head_dim, first = kv_head * group * head_dim;
  float* q = qkv + first;
  float* k = qkv + width + kv_head * head_dim;
  const float* v = k + kv_heads * head_dim;
  const auto prepare = [&](float* x, const float* norm, std::size_t position) {
    if (norm != nullptr) simd::rms_norm(x, norm, norm_eps, head_dim, x);
    if (rope == nullptr) return;
    const std::size_t at = position * (head_dim / 2);
    simd::rope_neox(x, head_dim, &rope->cos[at], &rope->sin[at]);
  };
  for (std::size_t i = 0; i < length; ++i) {
    for (std::size_t h = 0; h < group; ++h) prepare(q + i * stride + h * head_dim, q_norm, i);
    prepare(k + i * stride, k_norm, i);
  }
  simd::AttentionParams params{head_dim, group, 1.0f / std::sqrt(static_cast<float>(head_dim))};
  const simd::HeadRows<const float> queries{q, stride, head_dim};
  const simd::HeadRows<float> results{out + first, width, head_dim};
#if defined(__x86_64__)
  if (in_float16(length)) return simd::half_attend(params, queries, k, v, stride, length, scratch, results);
#endif
  std::byte* values = scratch + simd::kv_bytes(type, head_dim, length);
  simd::store_keys(type, head_dim, k, stride, length, 0, scratch);
  simd::store_values(type, head_dim, v, stride, length, 0, values);
  params.causal = causal;
  params.window = window;
  if (relative_bias != nullptr)
    params.relative_bias = relative_bias + kv_head * (2 * bias_reach + 1) + bias_reach;
  simd::attend(params, {type, scratch, values}, queries, length, 0, length, results);
}

}  // namespace metal_candle
