// What one forward pass needs besides weights and activations: which row belongs to which sequence.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "kernels/attention.h"
#include "mlx/stream.h"
#include "nn/adapter_rows.h"
#include "nn/kv_cache.h"

namespace metal_candle {

/// Prompts of so many tokens are long: what counts is their speed. A property of the prompt, not of the pass,
/// so that a row does not depend on its batch.
inline constexpr std::size_t kLongPrompt = 64;

/// Consecutive rows of the pass that continue the sequence of `cache`.
struct SequenceRows {
  KvCache* cache = nullptr;
  std::size_t rows = 0;
  bool exact = true;  ///< false: 16-bit weights, and a bf16 cache, may be multiplied in bf16, for speed
  const AdapterMix* adapters = nullptr;  ///< null: none
};

/// Passed down through all layers by reference. Built anew for each pass.
struct ForwardContext {
  std::shared_ptr<const AttentionBatch> attention;
  std::size_t exact_rows;  ///< these come first
  mlx::core::Stream stream;
  AdapterRows adapters;

  /// Positions continue each cache's length; `inv_freq` [head_dim / 2] are the rotary frequencies.
  /// Throws Error(context_overflow) if a cache has no room for its rows, Error(invalid_argument) if an exact
  /// sequence follows one that is not.
  static ForwardContext make(std::span<const SequenceRows> sequences, std::span<const float> inv_freq,
                             mlx::core::Stream stream);
};

}  // namespace metal_candle
