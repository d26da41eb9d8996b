// One block of a decoder and the pass through all of them. A single MLX primitive: between blocks nothing but
// the residual stream lives on, so it is updated in place and everything else is working memory.
#pragma once

#include <memory>
#include <vector>

#include "kernels/attention.h"
#include "mlx/array.h"
#include "nn/forward_context.h"
#include "nn/linear.h"

namespace metal_candle {

/// The layers of one block; each norm lives in the linear layer that follows it.
struct DecoderLayer {
  Linear qkv;  ///< [hidden] -> [(heads + 2 kv_heads) * head_dim], after the attention norm
  std::shared_ptr<const AttentionSpec> attention;
  Linear output;   ///< [heads * head_dim] -> [hidden], plus the residual
  Linear gate_up;  ///< [hidden] -> [intermediate], after the MLP norm, silu(gate) * up
  Linear down;     ///< [intermediate] -> [hidden], plus the residual

  /// hidden: f32 [rows, hidden], updated in place. `index` is the block's place in the caches.
  void run(const ForwardContext& ctx, float* hidden, std::size_t rows, std::size_t index) const;
};

/// hidden: f32 [rows, hidden] through all `layers`; returns the same shape. Writes the caches of `ctx` when
/// evaluated, so evaluate exactly once. `layers` must outlive the evaluation. Throws Error(invalid_argument)
/// on a shape that does not fit.
mlx::core::array decoder_layers(const std::vector<DecoderLayer>& layers, const ForwardContext& ctx,
                                mlx::core::array hidden);

}  // namespace metal_candle
