// Continuous batching: which rows the next forward pass holds, and what becomes of its logits. Sequences join
// and leave between steps; prompts go in by chunks beside decoding rows. Threads and queues of commands are
// the engine's business.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "inference/generation.h"
#include "inference/step_model.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

struct SchedulerOptions {
  std::size_t context_size = 4096;  ///< positions of one sequence
  simd::KvType kv_type = simd::KvType::f16;
  std::size_t max_sequences = 64;  ///< running at once; others wait their turn
  std::size_t max_rows = 512;      ///< rows of one forward pass
  /// Work of a pass that holds decoding rows beside a prompt, in int8 operations: it bounds how long the
  /// prompt delays them. 30e9 take 30 to 55 ms on two cores with AVX-512 VNNI.
  double mixed_operations = 30e9;
};

/// Used by one thread only (the engine's).
class Scheduler {
 public:
  enum class Step { worked, stalled, idle };

  /// `decoder` and `tokenizer` must outlive the scheduler.
  Scheduler(const Decoder& decoder, const Tokenizer& tokenizer, const SchedulerOptions& options)
      : Scheduler(std::make_unique<DecoderStep>(decoder), tokenizer, options) {}
  Scheduler(std::unique_ptr<StepModel> model, const Tokenizer& tokenizer, const SchedulerOptions& options);
  ~Scheduler();

  /// Queues a generation. Its queue is closed when it ends, with the error if it failed.
  void add(std::shared_ptr<Generation> generation);

  /// One forward pass over whatever is ready. `stalled`: there are sequences, but every consumer's queue is
  /// full.
  Step step();

 private:
  class Sequence;
  void admit();
  void drop_ended();
  void forward(const std::vector<Sequence*>& batch);
  std::size_t row_limit(const std::vector<Sequence*>& batch) const;

  const std::unique_ptr<StepModel> model_;
  const Tokenizer& tokenizer_;
  const SchedulerOptions options_;
  std::deque<std::shared_ptr<Generation>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;
};

}  // namespace metal_candle
