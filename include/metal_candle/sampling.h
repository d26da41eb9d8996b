// How the next token is chosen: the parameters of sampling.
// Not here: stop strings and lengths (generate.h), and the implementation (src/inference/sampler.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>

namespace metal_candle {

/// Parameters of the sampling chain; a default-constructed one is greedy decoding. Plain data.
///
/// Stages, in this order (docs/sampling.md gives each definition):
///   logit_bias -> repetition_penalty -> frequency_penalty, presence_penalty
///   -> top_k -> typical_p -> top_p -> min_p -> XTC -> temperature -> draw
/// It is llama.cpp's default order: filters judge the distribution at temperature 1 and temperature only
/// redistributes among the survivors. (transformers applies temperature first, so there a high temperature
/// also widens top_p.) Each filter renormalises what the one before it left, and always leaves a token.
///
/// At temperature 0 the token is the best one after bias and penalties; ties go to the lower id. The filters
/// are then not consulted: most would keep the best token anyway, typical_p and XTC exist to avoid it.
///
/// Probabilities reported with a token are always the model's own: softmax of the raw logits at
/// temperature 1, before bias, penalties and filters. They do not depend on any field of this struct.
struct SamplingParams {
  float temperature = 0.0f;  ///< >= 0; 0 is greedy.
  std::int32_t top_k = 0;    ///< Keep the k most likely; 0 is off.
  float typical_p = 1.0f;    ///< (0, 1]; locally typical sampling (Meister et al. 2022); 1 is off.
  float top_p = 1.0f;        ///< (0, 1]; nucleus sampling (Holtzman et al. 2020); 1 is off.
  float min_p = 0.0f;        ///< [0, 1]; drop tokens below min_p x the best one's probability; 0 is off.

  /// "Exclude top choices": with this probability, drop all tokens of at least xtc_threshold but the least
  /// likely of them.
  float xtc_probability = 0.0f;  ///< [0, 1]; 0 is off.
  float xtc_threshold = 0.1f;    ///< [0, 1]; above 0.5 it never acts.

  /// Penalties look at the last penalty_last_n tokens of prompt and answer together.
  float repetition_penalty = 1.0f;   ///< > 0; positive logits are divided by it, others multiplied; 1 is off.
  float frequency_penalty = 0.0f;    ///< Subtracted once per occurrence.
  float presence_penalty = 0.0f;     ///< Subtracted once if the token occurs.
  std::int32_t penalty_last_n = 64;  ///< -1: the whole history; 0: no penalties.

  /// Added to the logits of these tokens; -infinity bans one. Ids are checked against the vocabulary.
  std::map<std::int32_t, float> logit_bias = {};

  /// Same seed, build and thread count: same text. Empty: a fresh seed from the operating system.
  std::optional<std::uint64_t> seed = {};

  std::int32_t logprobs = 0;  ///< n of the n-best list reported with each token; 0 is none.
};

/// Throws Error(invalid_argument) naming the first field out of its range.
void validate(const SamplingParams& params);

}  // namespace metal_candle
