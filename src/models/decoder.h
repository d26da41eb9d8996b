// The one decoder: a pre-norm transformer with rotary attention and a gated MLP, all of whose variants are
// data in DecoderSpec. It runs ragged batches; who decides what is in a batch is inference/scheduler.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "adapters/delta_places.h"
#include "kernels/packed_linear.h"
#include "kernels/weight_arena.h"
#include "mlx/array.h"
#include "models/decoder_spec.h"
#include "nn/decoder_layer.h"
#include "nn/forward_context.h"
#include "nn/kv_cache.h"
#include "nn/linear.h"

namespace metal_candle {

/// The weights of a decoder, as the loader made them.
struct DecoderWeights {
  std::unique_ptr<WeightArena> arena;
  std::shared_ptr<const PackedLinear> embedding;  ///< [vocab, hidden]
  std::vector<DecoderLayer> layers;
  Linear head;  ///< [hidden] -> [vocab], after the final norm
};

/// Immutable after construction. All calls on the engine thread (MLX streams are thread-local).
class Decoder {
 public:
  Decoder(DecoderSpec spec, DecoderWeights weights);

  const DecoderSpec& spec() const noexcept { return spec_; }
  const DecoderWeights& weights() const noexcept { return weights_; }
  KvShape kv_shape(simd::KvType type) const noexcept;
  std::size_t weight_bytes() const noexcept { return weights_.arena->used(); }

  /// One pass over `tokens`, whose rows belong to `sequences` in order. Appends to their caches.
  /// Returns evaluated logits, f32 [logit_rows.size(), vocab], of the rows listed in `logit_rows`,
  /// which ascend.
  /// Throws Error(invalid_argument) for an unknown id, Error(context_overflow) for a full cache.
  mlx::core::array forward(std::span<const std::int32_t> tokens, std::span<const SequenceRows> sequences,
                           std::span<const std::int32_t> logit_rows) const;

 private:
  DecoderSpec spec_;
  DecoderWeights weights_;
};

}  // namespace metal_candle
