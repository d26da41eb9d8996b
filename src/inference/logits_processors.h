// The stages of the sampling chain over plain floats: penalties on a logit vector, filters on candidates.
// Each is one definition of docs/sampling.md; their order and the random draw are sampler.h's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "inference/rng.h"
#include "metal_candle/sampling.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// Position of the first NaN or infinity, or `logits.size()`.
std::size_t first_non_finite(std::span<const float> logits) noexcept;

/// Adds each bias. Ids must be within `logits`.
void apply_logit_bias(std::span<float> logits, const std::map<std::int32_t, float>& bias);

/// Repetition, frequency and presence penalties over `window` (already cut to penalty_last_n).
/// Ids outside `logits` are skipped: a prompt may hold added tokens the output layer lacks.
void apply_penalties(std::span<float> logits, std::span<const TokenId> window, const SamplingParams& params);

/// The tokens still in play, with their logits. A filter always leaves one. Logits may be -infinity (banned
/// tokens, never drawn) but not all of them. Keeps its memory between sequences. Not thread-safe.
class Candidates {
 public:
  /// All of `logits`, token i being position i.
  void assign(std::span<const float> logits);
  /// The `k` best of `logits`, best first; k > 0.
  void assign_top_k(std::span<const float> logits, std::size_t k);

  void typical_p(float mass);
  void top_p(float mass);
  void min_p(float fraction);
  /// XTC once it is to happen: how often is the sampler's business.
  void xtc(float threshold);

  /// Draws one token with probability proportional to exp(logit / temperature). Consumes one random number.
  TokenId draw(float temperature, Rng& rng);

  std::span<const TokenId> tokens() const noexcept { return tokens_; }
  std::span<const float> logits() const noexcept { return logits_; }

 private:
  /// weights_ = softmax(logits_ / temperature).
  void weigh(float temperature);
  /// Keeps the fewest candidates, in falling order of `keys`, whose weights reach `mass`.
  void keep_mass(std::span<const float> keys, double mass);
  /// The indices of the same candidates into order_, in linear time; returns their number.
  std::size_t keep_mass_by_histogram(std::span<const float> keys, double mass);
  template <typename Keep>
  void keep_if(const Keep& keep);

  std::vector<TokenId> tokens_;
  std::vector<float> logits_;
  std::vector<float> weights_;
  std::vector<float> keys_;
  std::vector<std::uint32_t> order_;
};

}  // namespace metal_candle
