// A decoder under training: the loss of a batch and its gradients. It knows no data, optimizer or adapter
// format; what is trained is set up by training/methods.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "models/decoder_spec.h"
#include "training/trainable_layer.h"

namespace metal_candle {

/// Packed sequences: row i predicts targets[i].
struct TrainingBatch {
  std::vector<std::int32_t> tokens;   ///< [rows]
  std::vector<std::int32_t> targets;  ///< [rows]; ignored where the weight is 0
  std::vector<float> weights;         ///< [rows], of each row's loss: 1, or 0 where it is masked
  std::vector<PackedSequence> sequences;
};

struct LossOptions {
  PassOptions pass;
  float label_smoothing = 0;
  bool checkpoint = false;  ///< keep only each layer's input, and compute the rest again in the backward pass
};

struct BatchLoss {
  double sum = 0;     ///< of weighted negative log-likelihoods, in nats, smoothed if asked
  double weight = 0;  ///< sum of the weights
};

/// Move-only; one thread drives it.
class TrainableModel {
 public:
  DecoderSpec spec;
  TrainableLinear embedding;  ///< its weight's rows are the table; never multiplied
  std::vector<TrainableLayer> layers;
  TrainableNorm final_norm;
  TrainableLinear head;
  std::deque<Parameter> parameters;  ///< of weights and norms that are trained themselves

  /// Every trained tensor, in a fixed order.
  std::vector<Parameter*> trained();
  /// Weights that a row is multiplied by: of the linear layers and the head.
  std::uint64_t multiplied_weights() const;
  /// After parameters changed.
  void refresh();

  /// The loss alone.
  BatchLoss loss(const TrainingBatch& batch, const LossOptions& options);
  /// Also adds factor * d(sum)/dp to the gradient of every trained tensor.
  BatchLoss loss_and_gradient(const TrainingBatch& batch, const LossOptions& options, float factor);

 private:
  BatchLoss run(const TrainingBatch& batch, const LossOptions& options, const float* factor);
  void embed(std::span<const std::int32_t> tokens, float* out) const;
  void embed_backward(std::span<const std::int32_t> tokens, const float* d);
  BatchLoss head_loss(const TrainingBatch& batch, const LossOptions& options, const float* hidden,
                      const float* factor, float* d);

  std::deque<LayerActivations> activations_;
  Scratch inputs_, gradient_;  // of every layer, and what comes out; of the layer at hand
};

}  // namespace metal_candle
