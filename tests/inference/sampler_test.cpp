#include "inference/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "inference/sampler_reference.h"

namespace metal_candle {
namespace {

using ::testing::HasSubstr;

std::vector<float> random_logits(std::size_t n, unsigned seed, float sd) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, sd);
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

template <typename F>
std::string error_of(const F& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
    return e.what();
  }
  return "no error";
}

struct Chain {
  const char* name;
  SamplingParams params;
};

std::vector<Chain> chains() {
  std::vector<Chain> out;
  const auto add = [&](const char* name, auto set) {
    SamplingParams p;
    p.temperature = 1;
    p.seed = 1234;
    set(p);
    out.push_back({name, p});
  };
  add("plain", [](auto&) {});
  add("cold", [](auto& p) { p.temperature = 0.5f; });
  add("hot", [](auto& p) { p.temperature = 2.5f; });
  add("top_k", [](auto& p) { p.top_k = 7; });
  add("top_p", [](auto& p) { p.top_p = 0.8f; });
  add("min_p", [](auto& p) { p.min_p = 0.1f; });
  add("typical_p", [](auto& p) { p.typical_p = 0.7f; });
  add("xtc", [](auto& p) { p.xtc_probability = 0.5f; });
  add("penalties", [](auto& p) {
    p.repetition_penalty = 1.2f;
    p.presence_penalty = 0.5f;
    p.frequency_penalty = 0.3f;
    p.penalty_last_n = 3;
  });
  add("bias", [](auto& p) { p.logit_bias = {{0, 3.0f}, {5, -INFINITY}, {7, -1.0f}}; });
  add("everything", [](auto& p) {
    p.temperature = 1.4f;
    p.top_k = 20;
    p.typical_p = 0.97f;
    p.top_p = 0.9f;
    p.min_p = 0.02f;
    p.xtc_probability = 0.3f;
    p.xtc_threshold = 0.15f;
    p.repetition_penalty = 1.1f;
    p.logit_bias = {{3, 1.0f}};
  });
  return out;
}

// Pearson's statistic over 100,000 draws against the distribution computed in double. Bins of fewer than 5
// expected draws are pooled. The limit is the 1 - 1e-6 quantile by Wilson and Hilferty's approximation; seeds
// are fixed, so the test does not flicker.
TEST(Sampler, DrawsFollowTheDocumentedDistribution) {
  const std::vector<float> logits = random_logits(40, 11, 1.5f);
  const std::vector<TokenId> history = {1, 2, 3, 3, 4, 39};
  for (const Chain& chain : chains()) {
    SCOPED_TRACE(chain.name);
    const auto expected = reference::distribution(logits, history, chain.params);
    Sampler sampler(chain.params, logits.size());
    constexpr int kDraws = 100000;
    std::map<int, int> counts;
    for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits, history).token];
    double statistic = 0, pooled_expected = 0, pooled = 0;
    int bins = 0, seen = 0;
    for (const auto& [token, probability] : expected) {
      const double e = probability * kDraws;
      const double n = counts.contains(token) ? counts[token] : 0;
      seen += static_cast<int>(n);
      if (e < 5) {
        pooled_expected += e;
        pooled += n;
        continue;
      }
      statistic += (n - e) * (n - e) / e;
      ++bins;
    }
    EXPECT_EQ(seen, kDraws) << "a filtered token was drawn";
    if (pooled_expected >= 5) {
      statistic += (pooled - pooled_expected) * (pooled - pooled_expected) / pooled_expected;
      ++bins;
    }
    ASSERT_GT(bins, 1);
    const double df = bins - 1, z = 4.753;
    const double limit = df * std::pow(1 - 2 / (9 * df) + z * std::sqrt(2 / (9 * df)), 3);
    EXPECT_LT(statistic, limit) << df << " degrees of freedom";
  }
}

TEST(Sampler, ReportsTheModelsOwnDistributionWhateverTheParameters) {
  const std::vector<float> logits = random_logits(5000, 21, 4);
  const auto p = reference::probabilities(reference::entries(logits));
  for (Chain chain : chains()) {
    chain.params.logprobs = 5;
    Sampler sampler(chain.params, logits.size());
    const Sample s = sampler.sample(logits, {});
    EXPECT_EQ(s.logit, logits[s.token]);
    // log_sum_exp is good to 1e-6 of a value near 20, and logprob is a difference of values of that size.
    EXPECT_NEAR(s.logprob, std::log(p[s.token]), 5e-5);
    EXPECT_NEAR(s.probability, p[s.token], 5e-5 * p[s.token]);
    auto best = reference::entries(logits);
    reference::top_k(best, 5);
    ASSERT_EQ(s.top.size(), 5u);
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ(s.top[i].token, best[i].token);
      EXPECT_NEAR(s.top[i].logprob, std::log(p[best[i].token]), 5e-5);
    }
    const Sample same = describe(logits, s.token, 5);
    EXPECT_EQ(same.logprob, s.logprob);
    EXPECT_EQ(same.top.size(), 5u);
  }
}

TEST(Sampler, ZeroTemperatureIsGreedyAfterBiasAndPenalties) {
  std::vector<float> logits = {0, 4, 4, 3.9f, 1};
  EXPECT_EQ(Sampler({}, 5).sample(logits, {}).token, 1) << "ties go to the lower id";
  SamplingParams p;
  p.xtc_probability = 1;
  p.typical_p = 0.1f;
  EXPECT_EQ(Sampler(p, 5).sample(logits, {}).token, 1) << "filters are not consulted";
  p = {};
  p.logit_bias = {{1, -1.0f}, {2, -INFINITY}};
  EXPECT_EQ(Sampler(p, 5).sample(logits, {}).token, 3);
  p = {};
  p.repetition_penalty = 2;
  p.penalty_last_n = 2;
  EXPECT_EQ(Sampler(p, 5).sample(logits, std::vector<TokenId>{3, 1, 2}).token, 3) << "3 is out of the window";
  p.penalty_last_n = -1;
  EXPECT_EQ(Sampler(p, 5).sample(logits, std::vector<TokenId>{3, 1, 2}).token, 1);
  p.penalty_last_n = 0;
  EXPECT_EQ(Sampler(p, 5).sample(logits, std::vector<TokenId>{3, 1, 2}).token, 1);
}

TEST(Sampler, SameSeedSameTokens) {
  const std::vector<float> logits = random_logits(1000, 31, 1);
  const auto run = [&](std::optional<std::uint64_t> seed) {
    SamplingParams p;
    p.temperature = 1;
    p.seed = seed;
    Sampler sampler(p, logits.size());
    std::vector<TokenId> out;
    for (int i = 0; i < 50; ++i) out.push_back(sampler.sample(logits, out).token);
    return out;
  };
  EXPECT_EQ(run(5), run(5));
  EXPECT_NE(run(5), run(6));
  EXPECT_NE(run({}), run({})) << "without a seed each run is its own";
}

TEST(Sampler, NamesTheBrokenLogit) {
  std::vector<float> logits(3000, 0.5f);
  logits[2049] = NAN;
  EXPECT_THAT(error_of([&] { Sampler({}, 3000).sample(logits, {}); }), HasSubstr("token 2049 is NaN"));
  logits[2049] = INFINITY;
  EXPECT_THAT(error_of([&] { Sampler({}, 3000).sample(logits, {}); }), HasSubstr("token 2049 is infinite"));
  EXPECT_THAT(error_of([&] { describe(logits, 0, 1); }), HasSubstr("token 2049"));
  logits[2049] = 0;
  EXPECT_THAT(error_of([&] { Sampler({}, 2999).sample(logits, {}); }), HasSubstr("3000 logits"));
  EXPECT_THAT(error_of([&] { describe(logits, 3000, 1); }), HasSubstr("token 3000"));
  EXPECT_THAT(error_of([&] { describe(logits, -1, 1); }), HasSubstr("token -1"));
}

TEST(Sampler, SaysWhenEveryTokenIsBanned) {
  SamplingParams p;
  p.logit_bias = {{0, -INFINITY}, {1, -INFINITY}};
  for (const float temperature : {0.0f, 1.0f}) {
    p.temperature = temperature;
    EXPECT_THAT(error_of([&] { Sampler(p, 2).sample(std::vector<float>{1, 2}, {}); }), HasSubstr("no token"));
  }
}

TEST(SamplingParams, EachFieldOutOfRangeIsNamed) {
  const auto refused = [](auto set) {
    SamplingParams p;
    set(p);
    return error_of([&] { Sampler(p, 100); });
  };
  for (const float bad : {-0.1f, NAN, INFINITY}) {
    EXPECT_THAT(refused([&](auto& p) { p.temperature = bad; }), HasSubstr("temperature"));
    EXPECT_THAT(refused([&](auto& p) { p.top_p = bad; }), HasSubstr("top_p"));
    EXPECT_THAT(refused([&](auto& p) { p.typical_p = bad; }), HasSubstr("typical_p"));
    EXPECT_THAT(refused([&](auto& p) { p.min_p = bad; }), HasSubstr("min_p"));
    EXPECT_THAT(refused([&](auto& p) { p.xtc_probability = bad; }), HasSubstr("xtc_probability"));
    EXPECT_THAT(refused([&](auto& p) { p.xtc_threshold = bad; }), HasSubstr("xtc_threshold"));
    EXPECT_THAT(refused([&](auto& p) { p.repetition_penalty = bad; }), HasSubstr("repetition_penalty"));
  }
  EXPECT_THAT(refused([](auto& p) { p.top_p = 0; }), HasSubstr("top_p"));
  EXPECT_THAT(refused([](auto& p) { p.repetition_penalty = 0; }), HasSubstr("repetition_penalty"));
  EXPECT_THAT(refused([](auto& p) { p.frequency_penalty = NAN; }), HasSubstr("frequency_penalty"));
  EXPECT_THAT(refused([](auto& p) { p.presence_penalty = INFINITY; }), HasSubstr("presence_penalty"));
  EXPECT_THAT(refused([](auto& p) { p.top_k = -1; }), HasSubstr("top_k"));
  EXPECT_THAT(refused([](auto& p) { p.penalty_last_n = -2; }), HasSubstr("penalty_last_n"));
  EXPECT_THAT(refused([](auto& p) { p.logprobs = -1; }), HasSubstr("logprobs"));
  EXPECT_THAT(refused([](auto& p) { p.logit_bias = {{100, 1}}; }), HasSubstr("token 100"));
  EXPECT_THAT(refused([](auto& p) { p.logit_bias = {{-1, 1}}; }), HasSubstr("token -1"));
  EXPECT_THAT(refused([](auto& p) { p.logit_bias = {{1, NAN}}; }), HasSubstr("token 1"));
  EXPECT_EQ(refused([](auto& p) { p.logit_bias = {{99, -INFINITY}}; }), "no error");
}

}  // namespace
}  // namespace metal_candle
