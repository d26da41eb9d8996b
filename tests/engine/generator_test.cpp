// The public Generator on a tiny model: streams, callbacks, stops, several at once.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <ranges>
#include <sstream>
#include <thread>

#include "core/json.h"
#include "metal_candle/generate.h"
#include "metal_candle/tokenizer.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

static_assert(std::ranges::input_range<TokenStream>);

const std::string kModel = std::string(MC_GOLDEN_DIR) + "/models/llama3";

class GeneratorTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model = Model::load(kModel + "/model.gguf", {.threads = 2, .kv_dtype = KvDType::f32});
    std::ifstream in(kModel + "/reference.json");
    std::stringstream text;
    text << in.rdbuf();
    const Json reference = parse_json(text.str(), "reference.json");
    prompt = reference["prompt"].get<std::vector<std::int32_t>>();
    greedy = reference["greedy"].get<std::vector<std::int32_t>>();
  }
  static void TearDownTestSuite() { model.reset(); }

  static GenerateOptions options(std::uint32_t max_tokens) {
    GenerateOptions o;
    o.max_tokens = max_tokens;
    o.ignore_eos = true;
    return o;
  }
  static std::vector<std::int32_t> ids(const std::vector<StreamToken>& tokens) {
    std::vector<std::int32_t> out;
    for (const StreamToken& t : tokens) out.push_back(t.token);
    return out;
  }

  static std::shared_ptr<Model> model;
  static std::vector<std::int32_t> prompt, greedy;
  Generator generator{model};
};
std::shared_ptr<Model> GeneratorTest::model;
std::vector<std::int32_t> GeneratorTest::prompt, GeneratorTest::greedy;

TEST_F(GeneratorTest, GreedyTokensEqualTransformers) {
  const GenerationResult result = generator.generate(prompt, options(12));
  EXPECT_EQ(ids(result.tokens), greedy);
  EXPECT_EQ(result.stats.prompt_tokens, prompt.size());
  EXPECT_EQ(result.stats.generated_tokens, 12u);
  EXPECT_EQ(result.stats.finish_reason, FinishReason::length);
  EXPECT_EQ(result.tokens.back().finish_reason, FinishReason::length);
  for (const StreamToken& t : result.tokens) EXPECT_NEAR(t.probability, std::exp(t.logprob), 1e-6);
}

TEST_F(GeneratorTest, RangeAndCallbackGiveTheSameTokens) {
  std::vector<StreamToken> ranged, called;
  TokenStream stream = generator.generate_stream(prompt, options(12));
  for (const StreamToken& t : stream) ranged.push_back(t);
  const GenerationStats stats = generator.generate_stream(prompt, options(12), [&](const StreamToken& t) {
    called.push_back(t);
    return true;
  });
  EXPECT_EQ(ids(ranged), greedy);
  EXPECT_EQ(ids(called), greedy);
  EXPECT_EQ(stream.stats().generated_tokens, stats.generated_tokens);
  for (std::size_t i = 0; i < ranged.size(); ++i) EXPECT_EQ(ranged[i].index, i);
}

TEST_F(GeneratorTest, ACallbackStopsEarly) {
  int calls = 0;
  const GenerationStats stats =
      generator.generate_stream(prompt, options(20), [&](const StreamToken&) { return ++calls < 3; });
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(stats.finish_reason, FinishReason::cancelled);
}

TEST_F(GeneratorTest, AStopTokenEndsTheAnswer) {
  GenerateOptions o = options(12);
  o.stop_tokens = {greedy[4]};
  const auto first = std::find(greedy.begin(), greedy.end(), greedy[4]);
  const GenerationResult result = generator.generate(prompt, o);
  EXPECT_EQ(result.stats.finish_reason, FinishReason::stop);
  EXPECT_EQ(ids(result.tokens), std::vector<std::int32_t>(greedy.begin(), first + 1));
}

TEST_F(GeneratorTest, AnAbandonedStreamFreesTheEngine) {
  for (int i = 0; i < 5; ++i) {
    TokenStream stream = generator.generate_stream(prompt, options(20));
    stream.next();
  }
  EXPECT_EQ(ids(generator.generate(prompt, options(12)).tokens), greedy);
}

TEST_F(GeneratorTest, TheTextIsTheTokensDecoded) {
  const GenerationResult result = generator.generate(prompt, options(20));
  std::string joined;
  for (const StreamToken& t : result.tokens) joined += t.text;
  EXPECT_EQ(joined, result.text);
  EXPECT_EQ(result.text, model->tokenizer().decode(ids(result.tokens), true));
}

TEST_F(GeneratorTest, ASeedDecidesTheText) {
  GenerateOptions o = options(20);
  o.sampling.temperature = 1;
  o.sampling.seed = 7;
  const auto first = ids(generator.generate(prompt, o).tokens);
  EXPECT_EQ(ids(generator.generate(prompt, o).tokens), first);
  o.sampling.seed = 8;
  EXPECT_NE(ids(generator.generate(prompt, o).tokens), first);
}

TEST_F(GeneratorTest, GenerationsFromManyThreadsEqualThoseAlone) {
  std::vector<std::vector<std::int32_t>> alone, together(6);
  const auto make = [&](std::size_t i) {
    GenerateOptions o = options(10 + static_cast<std::uint32_t>(i));
    o.sampling.temperature = i % 2 ? 1.0f : 0.0f;
    o.sampling.seed = i;
    std::vector<std::int32_t> p(prompt.begin(), prompt.begin() + 10 + static_cast<std::ptrdiff_t>(3 * i));
    return ids(Generator(model).generate(p, o).tokens);
  };
  for (std::size_t i = 0; i < together.size(); ++i) alone.push_back(make(i));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < together.size(); ++i) threads.emplace_back([&, i] { together[i] = make(i); });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(together, alone);
}

TEST_F(GeneratorTest, ASlowConsumerHoldsUpNobodyElse) {
  TokenStream slow = generator.generate_stream(prompt, options(80));  // more than the queue holds
  slow.next();
  EXPECT_EQ(ids(generator.generate(prompt, options(12)).tokens), greedy);
  std::size_t rest = 1;
  while (slow.next()) ++rest;
  EXPECT_EQ(rest, slow.stats().generated_tokens);
  EXPECT_EQ(rest, 80u);
}

TEST_F(GeneratorTest, TheContextEndsAGeneration) {
  const auto small = Model::load(kModel + "/model.gguf", {.context_size = 48, .kv_dtype = KvDType::f32});
  const GenerationResult result = Generator(small).generate(prompt, options(100));
  EXPECT_EQ(result.stats.finish_reason, FinishReason::length);
  EXPECT_EQ(prompt.size() + result.tokens.size(), 48u);
  std::vector<std::int32_t> too_long(48, 1);
  EXPECT_MC_ERROR(Generator(small).generate(too_long), ErrorCode::context_overflow, "48");
}

TEST_F(GeneratorTest, RefusesBadRequests) {
  EXPECT_MC_ERROR(generator.generate(std::vector<std::int32_t>{}), ErrorCode::invalid_argument,
                  "at least one");
  EXPECT_MC_ERROR(generator.generate(std::vector<std::int32_t>{-1}), ErrorCode::invalid_argument, "-1");
  GenerateOptions o;
  o.sampling.top_p = 2;
  EXPECT_MC_ERROR(generator.generate(prompt, o), ErrorCode::invalid_argument, "top_p");
  EXPECT_MC_ERROR(Generator(nullptr), ErrorCode::invalid_argument, "model");
}

TEST_F(GeneratorTest, ClosingTheModelDuringAGenerationEndsTheStream) {
  auto own = Model::load(kModel + "/model.gguf");
  TokenStream stream = Generator(own).generate_stream(prompt, options(50));
  own.reset();  // the stream keeps the model alive
  std::size_t tokens = 0;
  while (stream.next()) ++tokens;
  EXPECT_EQ(tokens, 50u);
}

TEST(ModelTest, DeviceGpuIsRefusedAndContextsAreBounded) {
  EXPECT_MC_ERROR(Model::load(kModel + "/model.gguf", {.device = Device::gpu}), ErrorCode::unsupported,
                  "gpu");
  EXPECT_MC_ERROR(Model::load(kModel + "/model.gguf", {.context_size = 1u << 20}),
                  ErrorCode::invalid_argument, "exceeds");
}

TEST(ModelTest, InspectReadsHeadersOnly) {
  const ModelInfo info = inspect_model(kModel + "/model.gguf");
  EXPECT_EQ(info.format, "gguf");
  EXPECT_EQ(info.architecture, "llama");
  EXPECT_EQ(info.hidden_size, 64u);
  EXPECT_FALSE(info.tensors.empty());
  EXPECT_EQ(info.file_bytes, std::filesystem::file_size(kModel + "/model.gguf"));
  const std::uint64_t weights = info.memory_needed(0);
  EXPECT_LT(weights, info.file_bytes);
  EXPECT_EQ(info.memory_needed(64, KvDType::f32) - weights, 2 * (info.memory_needed(64) - weights));
}

}  // namespace
}  // namespace metal_candle
