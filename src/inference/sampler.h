// Chooses the next token from one row of logits. Pure C++ on floats: where logits come from is not its
// business.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "inference/logits_processors.h"
#include "inference/rng.h"
#include "metal_candle/model.h"
#include "metal_candle/sampling.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// A chosen token. logit, logprob, probability and top describe the model's own distribution (softmax of the
/// raw logits at temperature 1), whatever the sampling parameters did to it.
struct Sample {
  TokenId token = 0;
  float logit = 0;
  float logprob = 0;
  float probability = 0;
  std::vector<TokenLogprob> top;  ///< The params.logprobs most likely tokens, best first.
};

/// One per generated sequence: it owns the sequence's random state. Not thread-safe.
class Sampler {
 public:
  /// Throws Error(invalid_argument) for parameters out of range or biased tokens outside the vocabulary.
  Sampler(SamplingParams params, std::size_t vocab_size);

  /// `logits`: vocab_size raw scores. `history`: prompt and answer so far, oldest first (for penalties).
  /// Throws Error(invalid_argument) naming the position of a NaN or infinite logit, or if every token is
  /// banned.
  Sample sample(std::span<const float> logits, std::span<const TokenId> history);

  const SamplingParams& params() const noexcept { return params_; }
  /// The seed in use, drawn from the operating system if params had none.
  std::uint64_t seed() const noexcept { return seed_; }

 private:
  bool penalised() const noexcept;
  TokenId choose(std::span<const float> logits, std::span<const TokenId> history);

  SamplingParams params_;
  std::size_t vocab_size_;
  std::uint64_t seed_;
  Rng rng_;
  std::vector<float> scores_;  // logits after bias and penalties
  Candidates candidates_;
};

/// Log-probabilities of `logits` for teacher-forced scoring: logprob of `token` and the `n` best entries.
/// The same numbers Sampler reports. Throws as Sampler::sample does, and for a token outside `logits`.
Sample describe(std::span<const float> logits, TokenId token, std::size_t n);

}  // namespace metal_candle
