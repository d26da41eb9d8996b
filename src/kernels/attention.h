// Rotary causal attention over KV caches for a ragged batch: rows of several sequences in one call, prompt
// chunks and decoding rows mixed. On raw memory, and as an MLX op over it; it owns no cache.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/simd/attention_kv.h"
#include "mlx/array.h"
#include "mlx/utils.h"

namespace metal_candle {

/// Where one sequence keeps its keys and values: layer after layer, in a layer head after head, in a head the
/// keys, then the values (simd/attention_kv.h has their layout).
struct KvView {
  simd::KvType type = simd::KvType::f16;
  std::byte* data = nullptr;
  std::size_t head_bytes = 0;   ///< keys of one head; its values follow
  std::size_t layer_bytes = 0;  ///< all heads of one layer
  std::byte* keys(std::size_t layer, std::size_t head) const {
    return data + layer * layer_bytes + head * 2 * head_bytes;
  }
  std::byte* values(std::size_t layer, std::size_t head) const { return keys(layer, head) + head_bytes; }
};

/// Consecutive rows of the batch that continue one sequence.
struct AttentionSequence {
  KvView cache;
  std::size_t first_row = 0;
  std::size_t rows = 0;
  std::size_t position = 0;  ///< of the first row; the cache holds this many positions already
  bool exact = true;         ///< false: a 16-bit cache may be multiplied in 16 bits, for speed
};

/// What all layers of one forward pass share. Immutable once built; kept alive by the graph.
struct AttentionBatch {
  std::vector<AttentionSequence> sequences;  ///< cover rows 0..n-1 in order
  std::vector<float> cos, sin;               ///< [rows][head_dim / 2]
};

/// One layer's attention. Immutable; shared by all graphs.
struct AttentionSpec {
  std::size_t heads = 0;     ///< query heads
  std::size_t kv_heads = 0;  ///< divides heads
  std::size_t head_dim = 0;
  float scale = 1;
  std::size_t window = 0;     ///< 0: unlimited
  std::vector<float> q_norm;  ///< [head_dim] RMSNorm on each query head before the rotation; or empty
  std::vector<float> k_norm;  ///< likewise for keys
  float norm_eps = 1e-6f;
};

/// One call on raw memory, row-major f32.
struct AttentionCall {
  const AttentionSpec& spec;
  const AttentionBatch& batch;
  std::size_t layer;
  const float* qkv;  ///< [rows, (heads + 2 kv_heads) * head_dim]
  float* out;        ///< [rows, heads * head_dim]
  std::size_t rows;

  std::size_t group() const { return spec.heads / spec.kv_heads; }
  std::size_t qkv_width() const { return (spec.heads + 2 * spec.kv_heads) * spec.head_dim; }
  std::size_t out_width() const { return spec.heads * spec.head_dim; }
};

/// Computes on the compute pool and returns when `out` and the caches are complete. Shapes are the caller's
/// to check.
void run_attention(const AttentionCall& call);

/// qkv: f32 [rows, (heads + 2 kv_heads) * head_dim]. Rotates queries and keys, appends keys and values of
/// every row to its sequence's cache at `layer`, and returns f32 [rows, heads * head_dim]. A row sees its own
/// sequence up to itself. Writes through batch->sequences[i].cache when evaluated, so evaluate a batch
/// exactly once.
mlx::core::array attention(const mlx::core::array& qkv, const std::shared_ptr<const AttentionSpec>& spec,
                           const std::shared_ptr<const AttentionBatch>& batch, std::size_t layer,
                           mlx::core::StreamOrDevice s);

}  // namespace metal_candle
