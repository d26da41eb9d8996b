// Rotary position embedding (arXiv:2104.09864) of one head of f32 values. The inverse frequencies are data
// that the caller computes, so every scaling rule (linear, llama3, yarn) is outside this file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// cos[i] = factor * cos(position * inv_freq[i]), sin likewise, i < n; the angle is computed in double, so
/// positions up to 2^31 keep f32 accuracy. `factor` is yarn's attention factor, 1 otherwise.
void rope_table(std::int64_t position, const float* inv_freq, std::size_t n, float factor, float* cos,
                float* sin);

/// Rotates pairs (i, i + rot_dim/2) of head[0, rot_dim) by the angles of cos/sin[rot_dim/2]: the layout of
/// Hugging Face checkpoints. Partial rotary: values at rot_dim and above are left alone. rot_dim is even.
void rope_neox(float* head, std::size_t rot_dim, const float* cos, const float* sin);
/// From one place to another; writes out[0, rot_dim).
void rope_neox(const float* head, std::size_t rot_dim, const float* cos, const float* sin, float* out);

/// Rotates pairs (2i, 2i + 1): the layout of llama-architecture GGUF files, whose converter permutes q and k.
void rope_interleaved(float* head, std::size_t rot_dim, const float* cos, const float* sin);

}  // namespace metal_candle::simd
