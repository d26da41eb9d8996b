#include "inference/logits_processors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "inference/sampler_reference.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;

std::vector<float> random_logits(std::size_t n, unsigned seed, float sd = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, sd);
  std::vector<float> out(n);
  for (float& x : out) x = normal(random);
  return out;
}

std::vector<TokenId> ids(const reference::Entries& e) {
  std::vector<TokenId> out;
  for (const auto& x : e) out.push_back(x.token);
  return out;
}

std::vector<TokenId> sorted(std::span<const TokenId> ids) {
  std::vector<TokenId> out(ids.begin(), ids.end());
  std::sort(out.begin(), out.end());
  return out;
}

/// Runs one filter both ways over vocabularies from 1 to 49,152 tokens, flat and peaked.
template <typename Ours, typename Theirs>
void compare_kept(const Ours& ours, const Theirs& theirs) {
  unsigned seed = 0;
  for (const std::size_t n : {1u, 2u, 3u, 17u, 63u, 64u, 65u, 300u, 5000u, 49152u}) {
    for (const float sd : {0.1f, 1.0f, 4.0f}) {
      const std::vector<float> logits = random_logits(n, ++seed, sd);
      Candidates candidates;
      candidates.assign(logits);
      ours(candidates);
      reference::Entries expected = reference::entries(logits);
      theirs(expected);
      ASSERT_FALSE(candidates.tokens().empty());
      ASSERT_EQ(sorted(candidates.tokens()), sorted(ids(expected))) << "n " << n << ", sd " << sd;
      for (std::size_t i = 0; i < candidates.tokens().size(); ++i) {
        ASSERT_EQ(candidates.logits()[i], logits[candidates.tokens()[i]]);
      }
    }
  }
}

TEST(Candidates, TopPKeepsTheSmallestSetOfThatMass) {
  for (const float mass : {0.01f, 0.5f, 0.9f, 0.999f}) {
    compare_kept([&](Candidates& c) { c.top_p(mass); },
                 [&](reference::Entries& e) { reference::top_p(e, mass); });
  }
}

TEST(Candidates, TypicalKeepsWhatIsNearestToTheEntropy) {
  for (const float mass : {0.05f, 0.5f, 0.95f}) {
    compare_kept([&](Candidates& c) { c.typical_p(mass); },
                 [&](reference::Entries& e) { reference::typical_p(e, mass); });
  }
}

TEST(Candidates, MinPComparesWithTheBest) {
  for (const float fraction : {0.01f, 0.1f, 0.9f, 1.0f}) {
    compare_kept([&](Candidates& c) { c.min_p(fraction); },
                 [&](reference::Entries& e) { reference::min_p(e, fraction); });
  }
}

TEST(Candidates, XtcLeavesTheLeastLikelyOfTheTopChoices) {
  for (const float threshold : {0.0001f, 0.02f, 0.1f, 0.3f, 0.6f}) {
    compare_kept([&](Candidates& c) { c.xtc(threshold); },
                 [&](reference::Entries& e) { reference::xtc(e, threshold); });
  }
}

TEST(Candidates, TopKIsBestFirstWithTiesByLowerId) {
  const std::vector<float> logits = {1, 5, 2, 5, 5, 0};
  Candidates c;
  c.assign_top_k(logits, 2);
  EXPECT_THAT(c.tokens(), ElementsAre(1, 3));
  c.assign_top_k(logits, 4);
  EXPECT_THAT(c.tokens(), ElementsAre(1, 3, 4, 2));
  c.assign_top_k(logits, 100);
  EXPECT_THAT(c.tokens(), ElementsAre(1, 3, 4, 2, 0, 5));
  for (const std::size_t k : {1u, 40u, 1000u}) {
    const std::vector<float> many = random_logits(49152, 5);
    c.assign_top_k(many, k);
    reference::Entries expected = reference::entries(many);
    reference::top_k(expected, k);
    EXPECT_EQ(std::vector<TokenId>(c.tokens().begin(), c.tokens().end()), ids(expected));
  }
}

TEST(Candidates, ABannedTokenIsNeverDrawn) {
  const float banned = -std::numeric_limits<float>::infinity();
  Candidates c;
  Rng rng(1);
  for (int i = 0; i < 1000; ++i) {
    c.assign(std::vector<float>{banned, 0, banned, 0.5f, banned});
    c.typical_p(0.99f);
    const TokenId drawn = c.draw(i % 2 ? 1.0f : 100.0f, rng);
    EXPECT_TRUE(drawn == 1 || drawn == 3) << drawn;
  }
}

TEST(Candidates, VeryColdDrawsTheBest) {
  Rng rng(1);
  Candidates c;
  for (int i = 0; i < 100; ++i) {
    c.assign(std::vector<float>{1e4f, 1e4f + 1, -1e4f});
    EXPECT_EQ(c.draw(1e-30f, rng), 1);
  }
}

TEST(Penalties, MatchTheDefinitionForEachFieldAndTogether) {
  const std::vector<float> logits = random_logits(50, 9);
  std::vector<TokenId> history;
  std::mt19937 random(2);
  for (int i = 0; i < 40; ++i) history.push_back(static_cast<TokenId>(random() % 50));
  std::vector<SamplingParams> cases(5);
  cases[0].repetition_penalty = 1.3f;
  cases[1].frequency_penalty = 0.7f;
  cases[2].presence_penalty = -0.4f;
  cases[3].repetition_penalty = 0.8f;
  cases[3].frequency_penalty = 0.1f;
  cases[3].presence_penalty = 1.5f;
  cases[4].logit_bias = {{0, 2.5f}, {49, -100.0f}};
  for (SamplingParams& params : cases) {
    params.penalty_last_n = -1;
    std::vector<float> ours = logits;
    apply_logit_bias(ours, params.logit_bias);
    apply_penalties(ours, history, params);
    reference::Entries expected = reference::entries(logits);
    reference::penalise(expected, history, params);
    // A handful of f32 roundings of values below 128.
    for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], expected[i].logit, 4 * 128 * 0x1p-24);
  }
}

TEST(Penalties, SkipTokensWithoutALogit) {
  std::vector<float> logits = {1, 2};
  SamplingParams params;
  params.presence_penalty = 1;
  apply_penalties(logits, std::vector<TokenId>{-5, 2, 1000000, 1}, params);
  EXPECT_THAT(logits, ElementsAre(1, 1));
}

TEST(FirstNonFinite, FindsItAnywhere) {
  std::vector<float> logits(5000, std::numeric_limits<float>::max());
  EXPECT_EQ(first_non_finite(logits), 5000u);
  EXPECT_EQ(first_non_finite({}), 0u);
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
  for (std::size_t at : {0u, 1023u, 1024u, 4999u}) {
    std::vector<float> copy = logits;
    copy[at] = bad[at % 4];
    EXPECT_EQ(first_non_finite(copy), at);
  }
}

}  // namespace
}  // namespace metal_candle
