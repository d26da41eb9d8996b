// What the scheduler needs of a model: one ragged forward pass to logits. models/decoder is one; a test of
// the scheduler's threads has one without MLX.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "models/decoder.h"

namespace metal_candle {

/// Used by one thread only (the engine's).
class StepModel {
 public:
  virtual ~StepModel() = default;
  virtual const DecoderSpec& spec() const noexcept = 0;
  virtual KvShape kv_shape(simd::KvType type) const noexcept = 0;
  /// As Decoder::forward; [logit_rows.size() * vocab] logits, valid until the next call.
  virtual std::span<const float> forward(std::span<const std::int32_t> tokens,
                                         std::span<const SequenceRows> sequences,
                                         std::span<const std::int32_t> logit_rows) = 0;
};

/// A decoder, which must outlive it.
class DecoderStep final : public StepModel {
 public:
  explicit DecoderStep(const Decoder& decoder) : decoder_(decoder) {}
  const DecoderSpec& spec() const noexcept override { return decoder_.spec(); }
  KvShape kv_shape(simd::KvType type) const noexcept override { return decoder_.kv_shape(type); }
  std::span<const float> forward(std::span<const std::int32_t> tokens,
                                 std::span<const SequenceRows> sequences,
                                 std::span<const std::int32_t> logit_rows) override {
    logits_.reset();  // its memory serves the pass
    logits_ = decoder_.forward(tokens, sequences, logit_rows);
    return {logits_->data<float>(), logits_->size()};
  }

 private:
  const Decoder& decoder_;
  std::optional<mlx::core::array> logits_;
};

}  // namespace metal_candle
