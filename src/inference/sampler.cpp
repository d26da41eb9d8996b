#include "inference/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

#include "kernels/simd/softmax.h"

namespace metal_candle {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::invalid_argument, message); }

void require(bool ok, const std::string& field, const char* range, float value) {
  if (ok) return;
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", static_cast<double>(value));
  fail(field + " must be " + range + ", not " + digits);
}

void check_finite(std::span<const float> logits) {
  const std::size_t bad = first_non_finite(logits);
  if (bad == logits.size()) return;
  fail("logit of token " + std::to_string(bad) + " is " + (std::isnan(logits[bad]) ? "NaN" : "infinite") +
       ": the weights are damaged or overflow");
}

Sample describe_finite(std::span<const float> logits, TokenId token, std::size_t n) {
  const float log_sum = simd::log_sum_exp(logits.data(), logits.size());
  Sample out;
  out.token = token;
  out.logit = logits[token];
  out.logprob = std::min(0.0f, out.logit - log_sum);
  out.probability = std::exp(out.logprob);
  std::vector<std::uint32_t> best(std::min(n, logits.size()));
  if (!best.empty()) simd::top_k(logits.data(), logits.size(), best.size(), best.data());
  out.top.reserve(best.size());
  for (const std::uint32_t i : best) {
    out.top.push_back({static_cast<TokenId>(i), std::min(0.0f, logits[i] - log_sum)});
  }
  return out;
}

}  // namespace

void validate(const SamplingParams& p) {
  const auto within = [](float x, float low, float high) { return x >= low && x <= high; };  // false for NaN
  const auto share = [&](float x) { return x > 0 && within(x, 0, 1); };
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", "0 or more", p.temperature);
  require(p.top_k >= 0, "top_k", "0 (off) or more", static_cast<float>(p.top_k));
  require(share(p.typical_p), "typical_p", "above 0 and at most 1", p.typical_p);
  require(share(p.top_p), "top_p", "above 0 and at most 1", p.top_p);
  require(within(p.min_p, 0, 1), "min_p", "between 0 and 1", p.min_p);
  require(within(p.xtc_probability, 0, 1), "xtc_probability", "between 0 and 1", p.xtc_probability);
  require(within(p.xtc_threshold, 0, 1), "xtc_threshold", "between 0 and 1", p.xtc_threshold);
  require(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty", "above 0",
          p.repetition_penalty);
  require(std::isfinite(p.frequency_penalty), "frequency_penalty", "finite", p.frequency_penalty);
  require(std::isfinite(p.presence_penalty), "presence_penalty", "finite", p.presence_penalty);
  require(p.penalty_last_n >= -1, "penalty_last_n", "-1 (all), 0 (off) or more",
          static_cast<float>(p.penalty_last_n));
  require(p.logprobs >= 0, "logprobs", "0 or more", static_cast<float>(p.logprobs));
  for (const auto& [token, bias] : p.logit_bias) {
    const std::string field = "logit_bias of token " + std::to_string(token);
    require(token >= 0, field, "for an id of 0 or more", static_cast<float>(token));
    require(bias < std::numeric_limits<float>::infinity(), field, "a number or -infinity", bias);
  }
}

Sampler::Sampler(SamplingParams params, std::size_t vocab_size)
    : params_(std::move(params)),
      vocab_size_(vocab_size),
      seed_(params_.seed ? *params_.seed : random_seed()),
      rng_(seed_) {
  validate(params_);
  if (!params_.logit_bias.empty()) {
    const auto last = static_cast<std::size_t>(params_.logit_bias.rbegin()->first);
    if (last >= vocab_size) {
      fail("logit_bias names token " + std::to_string(last) + ", but the vocabulary has " +
           std::to_string(vocab_size) + " tokens");
    }
  }
}

bool Sampler::penalised() const noexcept {
  return params_.penalty_last_n != 0 &&
         (params_.repetition_penalty != 1 || params_.frequency_penalty != 0 || params_.presence_penalty != 0);
}

Sample Sampler::sample(std::span<const float> logits, std::span<const TokenId> history) {
  if (logits.empty() || logits.size() != vocab_size_) {
    fail("got " + std::to_string(logits.size()) + " logits for a vocabulary of " +
         std::to_string(vocab_size_));
  }
  check_finite(logits);
  return describe_finite(logits, choose(logits, history), static_cast<std::size_t>(params_.logprobs));
}

TokenId Sampler::choose(std::span<const float> logits, std::span<const TokenId> history) {
  if (!params_.logit_bias.empty() || penalised()) {
    scores_.assign(logits.begin(), logits.end());
    apply_logit_bias(scores_, params_.logit_bias);
    if (penalised()) {
      const std::size_t n =
          params_.penalty_last_n < 0 ? history.size() : static_cast<std::size_t>(params_.penalty_last_n);
      apply_penalties(scores_, history.last(std::min(n, history.size())), params_);
    }
    // Finite logits can overflow here too.
    const float best = simd::row_max(scores_.data(), scores_.size());
    if (!std::isfinite(best)) fail("logit_bias and penalties leave no token with a finite score");
    logits = scores_;
  }
  if (params_.temperature == 0) {
    return static_cast<TokenId>(simd::argmax(logits.data(), logits.size()));
  }
  if (params_.top_k > 0) {
    candidates_.assign_top_k(logits, static_cast<std::size_t>(params_.top_k));
  } else {
    candidates_.assign(logits);
  }
  if (params_.typical_p < 1) candidates_.typical_p(params_.typical_p);
  if (params_.top_p < 1) candidates_.top_p(params_.top_p);
  if (params_.min_p > 0) candidates_.min_p(params_.min_p);
  // The coin is tossed whenever XTC is on, so that the draws after it do not depend on its outcome.
  if (params_.xtc_probability > 0 && rng_.uniform() < params_.xtc_probability) {
    candidates_.xtc(params_.xtc_threshold);
  }
  return candidates_.draw(params_.temperature, rng_);
}

Sample describe(std::span<const float> logits, TokenId token, std::size_t n) {
  if (token < 0 || static_cast<std::size_t>(token) >= logits.size()) {
    fail("token " + std::to_string(token) + " is outside the vocabulary of " + std::to_string(logits.size()));
  }
  check_finite(logits);
  return describe_finite(logits, token, n);
}

}  // namespace metal_candle
