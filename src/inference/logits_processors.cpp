#include "inference/logits_processors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <unordered_map>

#include "kernels/simd/softmax.h"

namespace metal_candle {

std::size_t first_non_finite(std::span<const float> logits) noexcept {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  constexpr std::size_t kPiece = 1024;  // without an exit inside, so that it vectorises
  for (std::size_t begin = 0; begin < logits.size(); begin += kPiece) {
    const std::size_t end = std::min(begin + kPiece, logits.size());
    std::uint32_t bad = 0;
    for (std::size_t i = begin; i < end; ++i) {
      bad |= (std::bit_cast<std::uint32_t>(logits[i]) & kExponent) == kExponent;
    }
    if (!bad) continue;
    return std::find_if(logits.begin() + begin, logits.end(), [](float x) { return !std::isfinite(x); }) -
           logits.begin();
  }
  return logits.size();
}

void apply_logit_bias(std::span<float> logits, const std::map<std::int32_t, float>& bias) {
  for (const auto& [token, value] : bias) logits[token] += value;
}

void apply_penalties(std::span<float> logits, std::span<const TokenId> window, const SamplingParams& params) {
  std::unordered_map<TokenId, unsigned> counts;
  for (const TokenId token : window) {
    if (token >= 0 && static_cast<std::size_t>(token) < logits.size()) ++counts[token];
  }
  for (const auto& [token, count] : counts) {
    float& logit = logits[token];
    logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
    logit -= static_cast<float>(count) * params.frequency_penalty + params.presence_penalty;
  }
}

void Candidates::assign(std::span<const float> logits) {
  tokens_.resize(logits.size());
  std::iota(tokens_.begin(), tokens_.end(), 0);
  logits_.assign(logits.begin(), logits.end());
}

void Candidates::assign_top_k(std::span<const float> logits, std::size_t k) {
  order_.resize(std::min(k, logits.size()));
  simd::top_k(logits.data(), logits.size(), order_.size(), order_.data());
  tokens_.assign(order_.begin(), order_.end());
  logits_.resize(order_.size());
  for (std::size_t i = 0; i < order_.size(); ++i) logits_[i] = logits[order_[i]];
}

void Candidates::weigh(float temperature) {
  weights_.resize(logits_.size());
  // Colder than this no second token of any distance has a chance, and the scale would overflow.
  constexpr float kColdest = 1e-4f;
  simd::softmax(logits_.data(), logits_.size(), 1.0f / std::max(temperature, kColdest), weights_.data());
}

std::size_t Candidates::keep_mass_by_histogram(std::span<const float> keys, double mass) {
  constexpr std::size_t kBuckets = 2048;
  constexpr float kRange = 64;  // keys are logarithms: what lies further below weighs nothing
  const float top = simd::row_max(keys.data(), keys.size());
  const auto bucket = [&](std::size_t i) {
    return static_cast<std::size_t>(std::min(top - keys[i], kRange) * ((kBuckets - 1) / kRange));
  };
  std::array<double, kBuckets> masses{};
  for (std::size_t i = 0; i < keys.size(); ++i) masses[bucket(i)] += weights_[i];
  double sum = 0;
  std::size_t last = 0;  // the bucket in which the mass is reached
  while (last + 1 < kBuckets && sum + masses[last] < mass) sum += masses[last++];

  order_.clear();
  std::vector<std::uint32_t> border;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::size_t b = bucket(i);
    if (b < last) order_.push_back(static_cast<std::uint32_t>(i));
    if (b == last) border.push_back(static_cast<std::uint32_t>(i));
  }
  std::stable_sort(border.begin(), border.end(), [&](auto a, auto b) { return keys[a] > keys[b]; });
  for (std::size_t i = 0; i < border.size() && sum < mass; ++i) {
    sum += weights_[border[i]];
    order_.push_back(border[i]);
  }
  return order_.size();
}

void Candidates::keep_mass(std::span<const float> keys, double mass) {
  // Usually a few tokens hold the mass: selecting and adding those up is much the cheapest.
  constexpr std::size_t kFew = 256;
  order_.resize(std::min(kFew, keys.size()));
  simd::top_k(keys.data(), keys.size(), order_.size(), order_.data());
  double sum = 0;
  std::size_t kept = 0;
  while (kept < order_.size() && sum < mass) sum += weights_[order_[kept++]];
  if (sum < mass && order_.size() < keys.size()) {
    kept = keep_mass_by_histogram(keys, mass);
  }
  order_.resize(kept);
  // keys may be logits_ itself, so both vectors change only now.
  std::vector<TokenId> tokens(order_.size());
  std::vector<float> logits(order_.size());
  for (std::size_t i = 0; i < order_.size(); ++i) {
    tokens[i] = tokens_[order_[i]];
    logits[i] = logits_[order_[i]];
  }
  tokens_.swap(tokens);
  logits_.swap(logits);
}

template <typename Keep>
void Candidates::keep_if(const Keep& keep) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (!keep(i)) continue;
    tokens_[kept] = tokens_[i];
    logits_[kept++] = logits_[i];
  }
  tokens_.resize(kept);
  logits_.resize(kept);
}

void Candidates::typical_p(float mass) {
  weigh(1.0f);
  const float log_sum = simd::log_sum_exp(logits_.data(), logits_.size());
  double entropy = log_sum;  // H = -sum p log p = lse - sum p * logit
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (weights_[i] > 0) entropy -= double{weights_[i]} * logits_[i];
  }
  const auto h = static_cast<float>(entropy);
  keys_.resize(logits_.size());
  for (std::size_t i = 0; i < logits_.size(); ++i) keys_[i] = -std::abs(log_sum - logits_[i] - h);
  keep_mass(keys_, mass);
}

void Candidates::top_p(float mass) {
  weigh(1.0f);
  keep_mass(logits_, mass);
}

void Candidates::min_p(float fraction) {
  const float lowest = simd::row_max(logits_.data(), logits_.size()) + std::log(fraction);
  keep_if([&](std::size_t i) { return logits_[i] >= lowest; });
}

void Candidates::xtc(float threshold) {
  weigh(1.0f);
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  std::size_t least = kNone;
  for (std::size_t i = 0; i < logits_.size(); ++i) {
    if (weights_[i] < threshold) continue;
    const bool lower = least == kNone || logits_[i] < logits_[least] ||
                       (logits_[i] == logits_[least] && tokens_[i] > tokens_[least]);
    if (lower) least = i;
  }
  if (least == kNone) return;
  keep_if([&](std::size_t i) { return i == least || weights_[i] < threshold; });
}

TokenId Candidates::draw(float temperature, Rng& rng) {
  weigh(temperature);
  const double target = rng.uniform() * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  double sum = 0;
  std::size_t last = 0;  // the last possible one: rounding may leave the target just out of reach
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    if (!(weights_[i] > 0)) continue;
    last = i;
    sum += weights_[i];
    if (sum > target) break;
  }
  return tokens_[last];
}

}  // namespace metal_candle
