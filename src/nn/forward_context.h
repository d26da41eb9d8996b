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

/// In prompts of so many tokens speed counts: 16-bit weights may be multiplied in bf16, and from
/// kRoundedContext tokens on, where attention weighs, so may a 16-bit cache. Properties of the prompt, not of
/// the pass, so that a row does not depend on its batch.
inline constexpr std::size_t kLongPrompt = 64;
inline constexpr std::size_t kRoundedContext = 256;

/// Consecutive rows of the pass that continue the sequence of `cache`.
struct SequenceRows {
  KvCache* cache = nullptr;
  std::size_t rows = 0;
  std::size_t prompt = 0;                ///< length of the prompt that the rows are of; 0: of none
  const AdapterMix* adapters = nullptr;  ///< null: none

  bool exact() const noexcept { return prompt < kLongPrompt; }
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
