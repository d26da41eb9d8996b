// Every architecture and file format against transformers' logits (scripts/golden/models.py).
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/simd/target.h"
#include "models/golden_model.h"

namespace metal_candle {
namespace {

using test::GoldenModel;
using test::Row;

struct Case {
  std::string name;
  std::string file;
  double tolerance;
};

// Dense weights: products and sums in f32 on both sides; the reference itself is within 1e-5 of f64, ours
// adds the rounding of two layers of sums in another order.
constexpr double kDense = 2e-4;
// Quantized weights multiply activations rounded to int8 in blocks of 32: half a step is 0.4% of a block's
// largest value. llama.cpp, which rounds alike, is up to 0.16 off in log-probabilities on these models.
constexpr double kQuantized = 0.35;

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const char* name :
       {"llama2", "llama3", "llama3.1", "llama3.2", "smollm2", "mistral", "qwen2", "qwen2.5", "qwen3"})
    for (const char* file : {"dir", "gguf"}) out.push_back({name, file, kDense});
  for (const char* name : {"gguf-q4_0", "gguf-q4_1", "gguf-q5_0", "gguf-q5_1", "gguf-q8_0", "gguf-k"})
    out.push_back({name, "gguf", kQuantized});
  for (const char* name : {"mlx-q4-g32", "mlx-q4-g64", "mlx-q4-g128", "mlx-q8-g64", "mlx-mixed"})
    out.push_back({name, "dir", kQuantized});
  return out;
}

class GoldenModels : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override { before_ = simd::active_target(); }
  void TearDown() override { simd::force_target(before_); }

  static void expect_reference(const GoldenModel& model, const std::vector<Row>& logits, double tolerance) {
    const auto positions = model.reference["positions"].get<std::vector<std::size_t>>();
    const auto expected = model.reference["logits"].get<std::vector<Row>>();
    for (std::size_t i = 0; i < positions.size(); ++i)
      EXPECT_LT(test::largest_difference(logits[positions[i]], expected[i]), tolerance)
          << "position " << positions[i];
  }

 private:
  simd::SimdTarget before_;
};

TEST_P(GoldenModels, PromptOnEverySimdTarget) {
  for (const simd::SimdTarget target : simd::supported_targets()) {
    SCOPED_TRACE(simd::name(target));
    simd::force_target(target);
    const GoldenModel model = GoldenModel::load(GetParam().name, GetParam().file);
    expect_reference(model, model.logits(), GetParam().tolerance);
  }
}

// As long prompts are computed. bf16 keeps 8 bits of the activations and of f16 weights, whose products are
// of order 1 in these models: 2^-9 of each at random signs, over two layers.
TEST_P(GoldenModels, InexactPromptsStayClose) {
  constexpr double kBf16 = 0.12;
  const GoldenModel model = GoldenModel::load(GetParam().name, GetParam().file);
  KvCache cache = model.cache();
  expect_reference(model, model.logits(model.prompt(), 1000, cache, false),
                   std::max(kBf16, GetParam().tolerance));
}

TEST_P(GoldenModels, CachedDecodingTokenByToken) {
  const GoldenModel model = GoldenModel::load(GetParam().name, GetParam().file);
  expect_reference(model, model.logits(1), GetParam().tolerance);
}

// Only where rounding cannot change the choice: the reference's best token leads by more than the tolerance.
TEST_P(GoldenModels, SameBestTokens) {
  const GoldenModel model = GoldenModel::load(GetParam().name, GetParam().file);
  const auto logits = model.logits(7);
  const auto gap = model.reference["gap"].get<std::vector<double>>();
  int compared = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (gap[i] < 2 * GetParam().tolerance) continue;
    ++compared;
    const auto best = std::max_element(logits[i].begin(), logits[i].end()) - logits[i].begin();
    EXPECT_EQ(best, model.reference["top"][i][0][0].get<std::ptrdiff_t>()) << "position " << i;
  }
  EXPECT_GT(compared, 3);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenModels, testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.name + "_" + info.param.file;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace metal_candle
