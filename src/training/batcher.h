// Which examples form which batch: an order that follows from the seed and the position alone, so that a
// resumed run sees what it would have seen. Batches are never padded: sequences lie end to end.
#pragma once

#include <cstdint>
#include <vector>

#include "metal_candle/train.h"
#include "training/trainable_model.h"

namespace metal_candle {

struct BatcherOptions {
  std::uint32_t batch_size = 4;
  std::uint32_t max_seq_length = 2048;
  bool pack = false;  ///< as many examples as fit batch_size * max_seq_length tokens
  std::uint64_t seed = 0;
};

/// One thread. The dataset must outlive it.
class Batcher {
 public:
  Batcher(const Dataset& data, const BatcherOptions& options) : data_(data), options_(options) {}

  /// Batches of one pass over the data. With `pack` it reads every example to count.
  std::uint64_t batches_per_epoch() const;

  /// The next batch; a new epoch begins, in another order, when the data is through.
  TrainingBatch next();

  struct Position {
    std::uint64_t epoch = 0, index = 0;
  };
  Position position() const noexcept { return position_; }
  void set_position(Position position);
  /// Epochs that are through, with the share of the running one.
  double epochs() const noexcept;

 private:
  const std::vector<std::uint32_t>& order();
  const Dataset& data_;
  BatcherOptions options_;
  Position position_;
  std::vector<std::uint32_t> order_;
  std::uint64_t ordered_epoch_ = ~std::uint64_t{0};
};

/// Appends an example as one more sequence; row i predicts token i + 1.
void append_example(const TrainingExample& example, TrainingBatch& batch);

}  // namespace metal_candle
