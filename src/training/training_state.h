// All that a run needs to go on where it was killed, in one file that appears whole or not at all: trained
// values, the optimizer's state, counters and the position in the data. Random numbers are functions of the
// seed and the step.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"
#include "training/batcher.h"
#include "training/optimizer.h"

namespace metal_candle {

struct TrainingProgress {
  std::uint64_t step = 0;
  Batcher::Position position;
  double last_loss = 0;
  std::optional<double> initial_evaluation, best_evaluation, last_evaluation;
  std::uint64_t evaluations_without_progress = 0;
};

/// `settings`: what must not change between the parts of a run, as a JSON object. Throws Error(io_error).
void save_training_state(const std::filesystem::path& file, const std::vector<Parameter*>& parameters,
                         Optimizer& optimizer, const TrainingProgress& progress, const OrderedJson& settings);

/// Throws Error(malformed_file) naming file and tensor, Error(invalid_argument) naming a setting that
/// differs.
TrainingProgress load_training_state(const std::filesystem::path& file,
                                     const std::vector<Parameter*>& parameters, Optimizer& optimizer,
                                     const OrderedJson& settings);

}  // namespace metal_candle
