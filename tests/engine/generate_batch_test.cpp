// generate_batch: the tokens of every row are those it gets alone, whatever shares its passes.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "core/json.h"
#include "metal_candle/generate.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

std::string golden(const std::string& name) { return std::string(MC_GOLDEN_DIR) + "/models/" + name; }

Json reference(const std::string& name) {
  std::ifstream in(golden(name) + "/reference.json");
  std::stringstream text;
  text << in.rdbuf();
  return parse_json(text.str(), "reference.json");
}

std::vector<std::int32_t> ids(const GenerationResult& result) {
  std::vector<std::int32_t> out;
  for (const StreamToken& t : result.tokens) out.push_back(t.token);
  return out;
}

GenerateOptions options(std::uint32_t max_tokens) {
  GenerateOptions o;
  o.max_tokens = max_tokens;
  o.ignore_eos = true;
  return o;
}

// Prompts of several lengths, greedy and sampled, ending at different steps.
void expect_rows_as_alone(const std::string& name) {
  const auto model = Model::load(golden(name) + "/model.gguf", {.threads = 2, .kv_dtype = KvDType::f32});
  Generator generator(model);
  const auto whole = reference(name)["prompt"].get<std::vector<std::int32_t>>();
  std::vector<Prompt> prompts;
  std::vector<GenerateOptions> each;
  for (std::uint32_t i = 0; i < 9; ++i) {
    prompts.emplace_back(std::vector<std::int32_t>(whole.begin(), whole.end() - 2 * (i % 4)));
    each.push_back(options(6 + 7 * (i % 5)));
    each.back().sampling.temperature = i % 3 ? 1.0f : 0.0f;
    each.back().sampling.seed = i;
  }
  const std::vector<GenerationResult> together = generator.generate_batch(prompts, each);
  ASSERT_EQ(together.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const GenerationResult alone = generator.generate(prompts[i], each[i]);
    EXPECT_EQ(ids(together[i]), ids(alone)) << name << ", row " << i;
    EXPECT_EQ(together[i].text, alone.text);
    EXPECT_EQ(together[i].stats.prompt_tokens, prompts[i].tokens()->size());
    EXPECT_EQ(together[i].stats.generated_tokens, each[i].max_tokens);
    EXPECT_EQ(together[i].stats.finish_reason, FinishReason::length);
  }
  EXPECT_NE(ids(together[1]), ids(together[5])) << "the seeds make a difference";
}

TEST(GenerateBatch, RowsAreAsAloneOfFloats) { expect_rows_as_alone("llama3"); }
TEST(GenerateBatch, RowsAreAsAloneOfQuantizedWeights) { expect_rows_as_alone("gguf-q4_1"); }

class GenerateBatchTest : public testing::Test {
 protected:
  const Json expected = reference("llama3");
  const std::vector<std::int32_t> prompt = expected["prompt"].get<std::vector<std::int32_t>>();
  const std::vector<std::int32_t> greedy = expected["greedy"].get<std::vector<std::int32_t>>();
  std::shared_ptr<Model> model =
      Model::load(golden("llama3") + "/model.gguf", {.threads = 2, .kv_dtype = KvDType::f32});
  Generator generator{model};
};

TEST_F(GenerateBatchTest, OneSetOfOptionsServesAllAndMoreRowsThanRunAtOnce) {
  const std::vector<Prompt> prompts(70, Prompt(prompt));  // the scheduler runs 64
  const auto results = generator.generate_batch(prompts, options(12));
  ASSERT_EQ(results.size(), prompts.size());
  for (const GenerationResult& result : results) EXPECT_EQ(ids(result), greedy);
}

TEST_F(GenerateBatchTest, ARowLongerThanAQueueHoldsUpNobody) {
  const std::vector<Prompt> prompts(3, Prompt(prompt));
  const auto results = generator.generate_batch(prompts, std::vector{options(12), options(90), options(12)});
  EXPECT_EQ(ids(results[0]), greedy);
  EXPECT_EQ(results[1].tokens.size(), 90u);
  EXPECT_EQ(ids(results[2]), greedy);
}

TEST_F(GenerateBatchTest, NoPromptsGiveNoResults) { EXPECT_TRUE(generator.generate_batch({}).empty()); }

TEST_F(GenerateBatchTest, TheFailingRequestIsNamedAndTheOthersAreCancelled) {
  std::vector<Prompt> prompts(3, Prompt(prompt));
  prompts[1] = std::vector<std::int32_t>{-1};
  EXPECT_MC_ERROR(generator.generate_batch(prompts, options(100)), ErrorCode::invalid_argument, "request 1");
  prompts[1] = std::vector<std::int32_t>(model->context_size(), 1);
  EXPECT_MC_ERROR(generator.generate_batch(prompts), ErrorCode::context_overflow, "request 1");
  EXPECT_MC_ERROR(generator.generate_batch(prompts, std::vector{options(1)}), ErrorCode::invalid_argument,
                  "3 prompts");
  EXPECT_EQ(ids(generator.generate(prompt, options(12))), greedy) << "the engine is free again";
}

}  // namespace
}  // namespace metal_candle
