// Optimizers: what a step does to parameters with their gradients, and the state it keeps, in f32.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "metal_candle/train.h"
#include "training/parameter.h"

namespace metal_candle {

/// Bound to parameters by their order, which must not change.
class Optimizer {
 public:
  Optimizer(const OptimizerConfig& config, std::span<Parameter* const> parameters);

  /// One step with the gradients as they are. `rate`: the learning rate of this step.
  void step(std::span<Parameter* const> parameters, double rate);

  /// For checkpoints: tensors that hold all state besides the number of steps.
  struct State {
    std::string name;
    std::vector<float>* values;
  };
  std::vector<State> state();
  std::uint64_t steps() const noexcept { return steps_; }
  void set_steps(std::uint64_t steps) noexcept { steps_ = steps; }

 private:
  void adafactor(Parameter& p, std::size_t index, double rate);

  OptimizerConfig config_;
  std::uint64_t steps_ = 0;
  // Adafactor keeps of a matrix only the row and column means of squares, in first_ and second_.
  std::vector<std::vector<float>> first_, second_;
  std::vector<std::string> names_;
};

/// The norm of all gradients together.
double gradient_norm(std::span<Parameter* const> parameters);
void scale_gradients(std::span<Parameter* const> parameters, float factor);
void zero_gradients(std::span<Parameter* const> parameters);

}  // namespace metal_candle
