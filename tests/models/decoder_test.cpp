// Properties that hold for any decoder: causality, cached decoding, any split of a prompt, rows that do not
// mix.
#include "models/decoder.h"

#include <gtest/gtest.h>

#include "models/golden_model.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

using test::GoldenModel;
using test::Row;

// Sums over keys are grouped differently when a prompt is cut differently; f32 throughout.
constexpr double kRegrouping = 1e-4;

class DecoderTest : public testing::TestWithParam<const char*> {
 protected:
  GoldenModel model = GoldenModel::load(GetParam(), "gguf");
};

TEST_P(DecoderTest, ATokenNeverSeesTheNext) {
  const std::vector<Row> before = model.logits();
  std::vector<std::int32_t> changed = model.prompt();
  const std::size_t from = 17;
  for (std::size_t i = from; i < changed.size(); ++i) changed[i] = (changed[i] + 1) % 256;
  KvCache cache = model.cache();
  const std::vector<Row> after = model.logits(changed, changed.size(), cache);
  for (std::size_t i = 0; i < from; ++i) EXPECT_EQ(before[i], after[i]) << "position " << i;
  EXPECT_NE(before[from], after[from]);
}

TEST_P(DecoderTest, AnySplitOfThePromptGivesTheSameLogits) {
  const std::vector<Row> whole = model.logits();
  for (std::size_t chunk : {1u, 2u, 3u, 7u, 16u, 33u, 39u}) {
    SCOPED_TRACE(chunk);
    const std::vector<Row> split = model.logits(chunk);
    for (std::size_t i = 0; i < whole.size(); ++i)
      ASSERT_LT(test::largest_difference(whole[i], split[i]), kRegrouping) << "position " << i;
  }
}

TEST_P(DecoderTest, SequencesOfABatchDoNotMix) {
  const std::vector<std::int32_t> a = model.prompt();
  const std::vector<std::int32_t> b(a.rbegin(), a.rend());
  KvCache alone_a = model.cache(), alone_b = model.cache();
  const Row expect_a = model.logits(a, a.size(), alone_a).back();
  const Row expect_b = model.logits(b, b.size(), alone_b).back();

  // Half of b is in its cache already; the rest goes in beside the whole of a.
  KvCache cache_a = model.cache(), cache_b = model.cache();
  model.logits(std::span(b).first(20), 20, cache_b);
  std::vector<std::int32_t> tokens = a;
  tokens.insert(tokens.end(), b.begin() + 20, b.end());
  const std::vector<SequenceRows> rows{{&cache_a, a.size()}, {&cache_b, b.size() - 20}};
  const std::vector<std::int32_t> last{static_cast<std::int32_t>(a.size()) - 1,
                                       static_cast<std::int32_t>(tokens.size()) - 1};
  const auto logits = model.decoder->forward(tokens, rows, last);
  const std::size_t vocab = model.decoder->spec().vocab;
  const float* data = logits.data<float>();
  EXPECT_LT(test::largest_difference({data, data + vocab}, expect_a), kRegrouping);
  EXPECT_LT(test::largest_difference({data + vocab, data + 2 * vocab}, expect_b), kRegrouping);
}

TEST_P(DecoderTest, ACacheCutBackContinuesAsIfTheRestHadNeverBeen) {
  const std::vector<std::int32_t> tokens = model.prompt();
  KvCache cache = model.cache();
  model.logits(tokens, tokens.size(), cache);
  cache.truncate(10);
  const std::vector<Row> again = model.logits(std::span(tokens).subspan(10), 30, cache);
  EXPECT_LT(test::largest_difference(again.back(), model.logits().back()), kRegrouping);
}

TEST_P(DecoderTest, HalfPrecisionCachesStayClose) {
  const std::vector<Row> exact = model.logits();
  for (const auto& [type, tolerance] :
       {std::pair{simd::KvType::f16, 0.02}, {simd::KvType::bf16, 0.15}, {simd::KvType::int8, 0.15}}) {
    // 11 and 8 bits of mantissa on keys and values of order 1, or steps of 1/127 of the largest of a row.
    KvCache cache = model.cache(64, type);
    const std::vector<Row> rounded = model.logits(model.prompt(), 1000, cache);
    for (std::size_t i = 0; i < exact.size(); ++i)
      EXPECT_LT(test::largest_difference(exact[i], rounded[i]), tolerance);
  }
}

TEST_P(DecoderTest, RefusesUnknownTokensAndFullCaches) {
  KvCache cache = model.cache(8);
  const std::vector<std::int32_t> bad{1, 100000};
  EXPECT_MC_ERROR(model.logits(bad, 2, cache), ErrorCode::invalid_argument, "100000");
  EXPECT_MC_ERROR(model.logits(model.prompt(), 9, cache), ErrorCode::context_overflow, "8 positions");
  EXPECT_EQ(cache.length(), 0u);
}

INSTANTIATE_TEST_SUITE_P(All, DecoderTest, testing::Values("llama3", "mistral", "qwen3", "qwen2"));

}  // namespace
}  // namespace metal_candle
