// The sampling chain written down again, in double and by full sorts: what the tests compare with.
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "metal_candle/sampling.h"

namespace metal_candle::reference {

struct Entry {
  int token;
  double logit;
};
using Entries = std::vector<Entry>;

inline Entries entries(const std::vector<float>& logits) {
  Entries out;
  for (std::size_t i = 0; i < logits.size(); ++i) out.push_back({static_cast<int>(i), logits[i]});
  return out;
}

inline void sort(Entries& e) {
  std::sort(e.begin(), e.end(), [](const Entry& a, const Entry& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  });
}

inline std::vector<double> probabilities(const Entries& e, double temperature = 1) {
  double max = -INFINITY, sum = 0;
  for (const Entry& x : e) max = std::max(max, x.logit);
  std::vector<double> p;
  for (const Entry& x : e) sum += p.emplace_back(std::exp((x.logit - max) / temperature));
  for (double& x : p) x /= sum;
  return p;
}

inline void top_k(Entries& e, std::size_t k) {
  sort(e);
  e.resize(std::min(k, e.size()));
}

inline void top_p(Entries& e, double mass) {
  sort(e);
  const std::vector<double> p = probabilities(e);
  double sum = 0;
  std::size_t n = 0;
  while (n < e.size() && sum < mass) sum += p[n++];
  e.resize(n);
}

inline void typical_p(Entries& e, double mass) {
  const std::vector<double> p = probabilities(e);
  double entropy = 0;
  for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
  struct Shifted {
    double distance, p;
    Entry entry;
  };
  std::vector<Shifted> s;
  for (std::size_t i = 0; i < e.size(); ++i) s.push_back({std::abs(-std::log(p[i]) - entropy), p[i], e[i]});
  std::stable_sort(s.begin(), s.end(), [](auto& a, auto& b) { return a.distance < b.distance; });
  e.clear();
  double sum = 0;
  for (std::size_t n = 0; n < s.size() && sum < mass; ++n) {
    sum += s[n].p;
    e.push_back(s[n].entry);
  }
}

inline void min_p(Entries& e, double fraction) {
  const std::vector<double> p = probabilities(e);
  const double best = *std::max_element(p.begin(), p.end());
  Entries kept;
  for (std::size_t i = 0; i < e.size(); ++i) {
    if (p[i] >= fraction * best) kept.push_back(e[i]);
  }
  e = kept;
}

inline void xtc(Entries& e, double threshold) {
  sort(e);
  const std::vector<double> p = probabilities(e);
  std::size_t above = 0;
  while (above < e.size() && p[above] >= threshold) ++above;
  if (above > 1) e.erase(e.begin(), e.begin() + static_cast<std::ptrdiff_t>(above) - 1);
}

inline void penalise(Entries& e, const std::vector<int>& history, const SamplingParams& params) {
  for (Entry& x : e) {
    const auto bias = params.logit_bias.find(x.token);
    if (bias != params.logit_bias.end()) x.logit += bias->second;
    int count = 0;
    for (std::size_t i = 0; i < history.size(); ++i) {
      const bool within =
          params.penalty_last_n < 0 || history.size() - i <= static_cast<std::size_t>(params.penalty_last_n);
      count += within && history[i] == x.token;
    }
    if (count == 0) continue;
    x.logit = x.logit > 0 ? x.logit / params.repetition_penalty : x.logit * params.repetition_penalty;
    x.logit -= count * params.frequency_penalty + params.presence_penalty;
  }
}

/// Probability of each token to be drawn, by the whole chain.
inline std::map<int, double> distribution(const std::vector<float>& logits, const std::vector<int>& history,
                                          const SamplingParams& p) {
  Entries e = entries(logits);
  penalise(e, history, p);
  if (p.top_k > 0) top_k(e, static_cast<std::size_t>(p.top_k));
  if (p.typical_p < 1) typical_p(e, p.typical_p);
  if (p.top_p < 1) top_p(e, p.top_p);
  if (p.min_p > 0) min_p(e, p.min_p);
  std::map<int, double> out;
  const auto add = [&](const Entries& from, double share) {
    const std::vector<double> w = probabilities(from, p.temperature);
    for (std::size_t i = 0; i < from.size(); ++i) out[from[i].token] += share * w[i];
  };
  if (p.xtc_probability > 0) {
    Entries excluded = e;
    xtc(excluded, p.xtc_threshold);
    add(excluded, p.xtc_probability);
  }
  add(e, 1 - p.xtc_probability);
  return out;
}

}  // namespace metal_candle::reference
