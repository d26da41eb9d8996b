// The real SmolLM2-135M-Instruct (Q4_1) against transformers in f32 on the dequantized weights,
// teacher-forced (scripts/golden/score.py). Our activations are int8 in blocks of 32; the bounds are those of
// the first release.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>
#include <vector>

#include "core/json.h"
#include "kernels/simd/target.h"
#include "metal_candle/model.h"

namespace metal_candle {
namespace {

constexpr double kClearGap = 0.5;         // above it the best token must be the same
constexpr double kMeanDifference = 0.05;  // of log-probabilities
constexpr double kPerplexityShare = 0.005;

std::string model_path() {
  const std::string path = std::string(MC_MODEL_DIR) + "/SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path))
    throw std::runtime_error(path + " is missing; run scripts/fetch_demo_model.sh");
  return path;
}

std::string golden(const std::string& name) {
  std::ifstream in(std::string(MC_GOLDEN_DIR) + "/score/" + name);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

class ScoreReference : public testing::Test {
 protected:
  static void SetUpTestSuite() { model = Model::load(model_path()); }
  static void TearDownTestSuite() { model.reset(); }
  static std::shared_ptr<Model> model;
};
std::shared_ptr<Model> ScoreReference::model;

TEST_F(ScoreReference, BestTokensAndLogProbabilities) {
  std::istringstream lines(golden("reference.jsonl"));
  int texts = 0, clear = 0, agree = 0;
  std::size_t scored = 0;
  double difference = 0;
  for (std::string line; std::getline(lines, line); ++texts) {
    const Json reference = parse_json(line, "reference.jsonl");
    const auto tokens = reference["tokens"].get<std::vector<std::int32_t>>();
    const Score score = model->score(tokens, 5);
    ASSERT_EQ(score.logprobs.size(), tokens.size());
    ASSERT_EQ(score.top.size(), tokens.size());
    EXPECT_FALSE(score.logprobs[0].has_value());
    for (std::size_t i = 1; i < tokens.size(); ++i, ++scored)
      difference += std::abs(*score.logprobs[i] - reference["logprobs"][i].get<double>());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (reference["gap"][i].get<double>() <= kClearGap) continue;
      ++clear;
      agree += score.top[i][0].token == reference["top"][i][0][0].get<std::int32_t>();
    }
  }
  EXPECT_GE(texts, 20);
  EXPECT_GT(clear, 1000);
  EXPECT_EQ(agree, clear);
  EXPECT_LT(difference / static_cast<double>(scored), kMeanDifference);
  RecordProperty("mean_logprob_difference", std::to_string(difference / static_cast<double>(scored)));
}

// Of the committed text, against the f32 computation of the same weights.
void expect_perplexity(Model& model, simd::SimdTarget target) {
  const Json reference = parse_json(golden("perplexity.json"), "perplexity.json");
  const auto tokens = reference["tokens"].get<std::vector<std::int32_t>>();
  const auto chunk = reference["chunk"].get<std::size_t>();
  const simd::SimdTarget before = simd::active_target();
  simd::force_target(target);
  double sum = 0;
  std::size_t scored = 0;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const Score score =
        model.score(std::span(tokens).subspan(begin, std::min(chunk, tokens.size() - begin)), 1);
    for (const auto& logprob : score.logprobs)
      if (logprob) {
        sum += *logprob;
        ++scored;
      }
  }
  simd::force_target(before);
  ASSERT_EQ(scored, reference["scored_tokens"].get<std::size_t>());
  const double perplexity = std::exp(-sum / static_cast<double>(scored));
  const std::string name(simd::name(target));
  EXPECT_NEAR(perplexity / reference["perplexity"].get<double>(), 1.0, kPerplexityShare) << name;
  testing::Test::RecordProperty("perplexity_" + name, std::to_string(perplexity));
}

std::vector<simd::SimdTarget> vector_targets() {
  std::vector<simd::SimdTarget> targets = simd::supported_targets();
  std::erase(targets, simd::SimdTarget::scalar);
  return targets;
}

// A name that the presets which leave ScoreReference out leave out too.
class ScoreReferencePerTarget : public ScoreReference,
                                public testing::WithParamInterface<simd::SimdTarget> {};

TEST_P(ScoreReferencePerTarget, Perplexity) { expect_perplexity(*model, GetParam()); }

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ScoreReferencePerTarget);
INSTANTIATE_TEST_SUITE_P(Targets, ScoreReferencePerTarget, testing::ValuesIn(vector_targets()),
                         [](const auto& info) { return std::string(simd::name(info.param)); });

TEST_F(ScoreReference, PerplexityOnTheScalarTargetTakesMinutes) {
  expect_perplexity(*model, simd::SimdTarget::scalar);
}

}  // namespace
}  // namespace metal_candle
