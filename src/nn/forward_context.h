// What one forward pass needs besides weights and activations: which row belongs to which sequence
// and uses which adapters.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "kernels/attention.h"
#include "mlx/stream.h"
#include "nn/adapter_rows.h"
#include "nn/kv_cache.h"

namespace metal_candle {

/// Consecutive rows of the pass that continue the sequence of `cache`.
struct SequenceRows {
  KvCache* cache = nullptr;
  std::size_t rows = 0;
  const AdapterMix* adapters = nullptr;  ///< null: none
};

/// Passed down through all layers by reference. Built anew for each pass.
struct ForwardContext {
  std::shared_ptr<const AttentionBatch> attention;
  mlx::core::Stream stream;
  AdapterRows adapters;

  /// Positions continue each cache's length; `inv_freq` [head_dim / 2] are the rotary frequencies.
  /// Throws Error(context_overflow) if a cache has no room for its rows.
  static ForwardContext make(std::span<const SequenceRows> sequences, std::span<const float> inv_freq,
                             mlx::core::Stream stream);
};

}  // namespace metal_candle
