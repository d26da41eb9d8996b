// Attention within whole sequences, on plain buffers: the encoder's. No cache outlives a call;
// the decoder's attention op is attention.h.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/simd/attention.h"

namespace metal_candle {

/// cos and sin of every position, [positions][head_dim / 2] each.
struct RopeTable {
  std::vector<float> cos, sin;
  /// Grows to `positions`; what is there stays.
  void reserve(std::size_t positions, const std::vector<float>& inv_freq);
};

/// What all heads of a layer share.
struct SequenceAttention {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;  ///< divides `heads`
  std::size_t head_dim = 0;
  bool causal = false;
  std::size_t window = 0;  ///< if > 0: |i - j| < window
  /// Of keys and values while they are multiplied. bf16: all of attention in float16 where the CPU can and
  /// every position sees every other.
  simd::KvType type = simd::KvType::f32;
  const RopeTable* rope = nullptr;  ///< null: no rotation
  const float *q_norm = nullptr,
              *k_norm = nullptr;  ///< [head_dim] of an RMSNorm before the rotation; null: none
  float norm_eps = 0;
  const float* relative_bias = nullptr;  ///< [heads][2 * bias_reach + 1], heads == kv_heads; null: none
  std::size_t bias_reach = 0;            ///< sequences are at most bias_reach + 1 long

  /// Bytes of the keys and values of one head of a sequence.
  std::size_t scratch_bytes(std::size_t length) const;

  /// One kv head of one sequence with its query heads. qkv: [length][(heads + 2 * kv_heads) * head_dim],
  /// whose q and k are normalised and rotated in place; out: [length][heads * head_dim]; scratch: 64-byte
  /// aligned, scratch_bytes(length).
  void attend(float* qkv, std::size_t length, std::size_t kv_head, std::byte* scratch, float* out) const;

 private:
  bool in_float16(std::size_t length) const;
};

}  // namespace metal_candle
