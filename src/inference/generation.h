// One generation, seen from both sides: what the consumer asked for and where the engine puts the tokens.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "adapters/bound_adapter.h"
#include "inference/stop_conditions.h"
#include "inference/token_stream.h"
#include "metal_candle/generate.h"
#include "metal_candle/sampling.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

struct GenerationRequest {
  std::vector<TokenId> prompt;  ///< at least one token
  SamplingParams sampling;
  StopOptions stop;
  std::shared_ptr<const AdapterMix> adapters;  ///< null: none
};

/// Shared by the consumer, which pops, and the engine thread, which pushes. Thread-safe.
class Generation {
 public:
  Generation(GenerationRequest request, std::size_t queue_capacity, std::stop_token stop = {})
      : request(std::move(request)), queue(queue_capacity, std::move(stop)) {}

  const GenerationRequest request;
  TokenQueue<StreamToken> queue;

  /// Complete once the queue has ended.
  GenerationStats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void set_stats(const GenerationStats& stats) {
    const std::lock_guard lock(mutex_);
    stats_ = stats;
  }

 private:
  mutable std::mutex mutex_;
  GenerationStats stats_;
};

}  // namespace metal_candle
