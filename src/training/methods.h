// From a checkpoint to a model under training: what is frozen, what is trained and where it begins. Writing
// the result is training/export.
#pragma once

#include "metal_candle/train.h"
#include "models/decoder_sources.h"
#include "training/trainable_model.h"

namespace metal_candle {

/// Everything frozen, read from the checkpoint's mapping, which must outlive the model, as must the spec.
/// Throws as DecoderSources does.
TrainableModel load_trainable(const WeightStore& store, const DecoderSpec& spec);

/// A matrix of a model under training.
struct TrainableMatrix {
  WeightId id;
  TrainableLinear* linear;
  std::size_t segment;
};
/// All matrices that LoRA can reach, in the order of trained().
std::vector<TrainableMatrix> adaptable_matrices(TrainableModel& model);

/// Gives the targeted modules matrices. Throws Error(invalid_argument) naming what is wrong with the
/// settings, and if no module is targeted.
void add_lora(TrainableModel& model, const LoRAConfig& config, std::uint64_t seed);

/// Makes every weight a parameter, with the values the model has.
void train_all_weights(TrainableModel& model, const DecoderSources& sources);

/// A model of random weights, all trained: normal of deviation 0.02, norms 1, biases 0, as Hugging Face
/// begins.
TrainableModel random_model(const DecoderSpec& spec, std::uint64_t seed);

}  // namespace metal_candle
