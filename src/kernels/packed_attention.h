// Causal attention of whole sequences that lie one after another in a batch, and its gradient. Scores of a
// block of rows exist only while they are used, so memory grows with tokens, not with their square. No cache:
// generation is kernels/attention.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/attention.h"

namespace metal_candle {

/// Rows [begin, end) of the batch are one sequence; it sees nothing else.
struct PackedSequence {
  std::size_t begin, end;
};

/// qkv: [rows, width], rotated queries, keys, then values, width = (heads + 2 kv_heads) * head_dim.
/// out: [rows, heads * head_dim]. log_sums: [heads, rows], the log of each softmax's denominator, for the
/// gradient. The norms of `spec` are not applied here.
void packed_attention(const AttentionSpec& spec, std::span<const PackedSequence> sequences, std::size_t rows,
                      const float* qkv, float* out, float* log_sums, bool bf16);

/// dqkv [rows, width] from dout [rows, heads * head_dim]; `memory` holds packed_attention_floats().
void packed_attention_backward(const AttentionSpec& spec, std::span<const PackedSequence> sequences,
                               std::size_t rows, const float* qkv, const float* out, const float* log_sums,
                               const float* dout, float* dqkv, float* memory, bool bf16);
std::size_t packed_attention_floats(const AttentionSpec& spec, std::size_t rows);

}  // namespace metal_candle
