// Continuous batching on a tiny model: sequences join and leave, and nobody notices the others.
#include "inference/scheduler.h"

#include <gtest/gtest.h>

#include "inference/scoring.h"
#include "models/golden_model.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

using test::GoldenModel;

class SchedulerTest : public testing::Test {
 protected:
  GoldenModel model = GoldenModel::load("llama3", "gguf");
  std::unique_ptr<Tokenizer> tokenizer =
      Checkpoint::open(std::string(MC_GOLDEN_DIR) + "/models/llama3/model.gguf").tokenizer();
  SchedulerOptions options{
      .context_size = 128, .kv_type = simd::KvType::f32, .max_sequences = 64, .max_rows = 512};

  std::shared_ptr<Generation> request(std::size_t prompt, std::size_t tokens, std::size_t queue = 200) {
    const auto all = model.prompt();
    GenerationRequest r;
    r.prompt.assign(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(prompt));
    r.stop.max_tokens = tokens;
    r.stop.ignore_eos = true;
    return std::make_shared<Generation>(std::move(r), queue);
  }
  static std::vector<TokenId> drain(Generation& generation) {
    std::vector<TokenId> out;
    while (const auto token = generation.queue.pop()) out.push_back(token->token);
    return out;
  }
  static void finish(Scheduler& scheduler) {
    while (scheduler.step() != Scheduler::Step::idle) {
    }
  }
  std::vector<TokenId> alone(std::size_t prompt, std::size_t tokens) {
    Scheduler scheduler(*model.decoder, *tokenizer, options);
    const auto generation = request(prompt, tokens);
    scheduler.add(generation);
    finish(scheduler);
    return drain(*generation);
  }
};

TEST_F(SchedulerTest, RowsOfABatchGetTheTokensTheyGetAlone) {
  Scheduler scheduler(*model.decoder, *tokenizer, options);
  std::vector<std::shared_ptr<Generation>> generations;
  for (std::size_t i = 0; i < 6; ++i) {
    generations.push_back(request(5 + 6 * i, 4 + 3 * i));
    scheduler.add(generations.back());
    scheduler.step();  // the next one joins a batch that is already decoding
  }
  finish(scheduler);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(drain(*generations[i]), alone(5 + 6 * i, 4 + 3 * i)) << i;
}

TEST_F(SchedulerTest, LongPromptsGoInByChunksBesideDecodingRows) {
  const auto expect_long = alone(40, 10), expect_short = alone(3, 20);
  options.max_rows = 8;
  Scheduler scheduler(*model.decoder, *tokenizer, options);
  const auto quick = request(3, 20), slow = request(40, 10);
  scheduler.add(quick);
  scheduler.step();
  scheduler.add(slow);
  for (int i = 0; i < 5; ++i) scheduler.step();  // 5 x 7 rows of the prompt are in, none of its tokens is out
  EXPECT_EQ(quick->stats().generated_tokens, 0u);
  EXPECT_TRUE(quick->queue.pop().has_value());
  finish(scheduler);
  EXPECT_EQ(drain(*slow), expect_long);
  auto rest = drain(*quick);
  rest.insert(rest.begin(), expect_short.front());
  EXPECT_EQ(rest, expect_short);
}

TEST_F(SchedulerTest, APromptBesideDecodingRowsGoesInBySmallerPasses) {
  const auto passes_until_the_first_token = [&](double operations, bool beside) {
    options.mixed_operations = operations;
    Scheduler scheduler(*model.decoder, *tokenizer, options);
    const auto quick = request(3, 20),
               slow = request(40, 1);  // its only token ends it, and then it has stats
    if (beside) scheduler.add(quick);
    if (beside) scheduler.step();
    scheduler.add(slow);
    int passes = 0;
    while (slow->stats().generated_tokens == 0) {
      scheduler.step();
      ++passes;
    }
    return passes;
  };
  EXPECT_EQ(passes_until_the_first_token(50e9, true), 1);
  EXPECT_EQ(passes_until_the_first_token(1, true), 3);  // 16 rows, 16 and 8
  EXPECT_EQ(passes_until_the_first_token(1, false), 1);
}

TEST_F(SchedulerTest, MoreRequestsThanSeatsWaitTheirTurn) {
  options.max_sequences = 2;
  Scheduler scheduler(*model.decoder, *tokenizer, options);
  std::vector<std::shared_ptr<Generation>> generations;
  for (int i = 0; i < 5; ++i) scheduler.add(generations.emplace_back(request(6, 5)));
  finish(scheduler);
  for (const auto& g : generations) EXPECT_EQ(drain(*g), alone(6, 5));
}

TEST_F(SchedulerTest, AFullQueueStallsItsOwnSequenceOnly) {
  Scheduler scheduler(*model.decoder, *tokenizer, options);
  const auto slow = request(6, 10, 2), quick = request(6, 10);
  scheduler.add(slow);
  scheduler.add(quick);
  while (scheduler.step() == Scheduler::Step::worked) {
  }
  EXPECT_EQ(scheduler.step(), Scheduler::Step::stalled);
  EXPECT_EQ(drain(*quick), alone(6, 10));
  std::vector<TokenId> tokens;
  for (int i = 0; i < 10; ++i) {
    tokens.push_back(slow->queue.pop()->token);
    scheduler.step();
  }
  EXPECT_EQ(tokens, alone(6, 10));
}

TEST_F(SchedulerTest, CancellingOneLeavesTheOthers) {
  Scheduler scheduler(*model.decoder, *tokenizer, options);
  const auto doomed = request(6, 50), other = request(9, 12);
  scheduler.add(doomed);
  scheduler.add(other);
  for (int i = 0; i < 4; ++i) scheduler.step();
  doomed->queue.cancel();
  finish(scheduler);
  EXPECT_EQ(doomed->stats().finish_reason, FinishReason::cancelled);
  EXPECT_LE(drain(*doomed).size(), 4u);
  EXPECT_EQ(drain(*other), alone(9, 12));
}

TEST_F(SchedulerTest, BadSamplingEndsWithItsErrorInTheQueue) {
  Scheduler scheduler(*model.decoder, *tokenizer, options);
  GenerationRequest r;
  r.prompt = {1, 2};
  r.sampling.logit_bias[100000] = 1;  // outside the vocabulary
  const auto bad = std::make_shared<Generation>(r, 4);
  const auto good = request(6, 5);
  scheduler.add(bad);
  scheduler.add(good);
  finish(scheduler);
  EXPECT_MC_ERROR(bad->queue.pop(), ErrorCode::invalid_argument, "100000");
  EXPECT_EQ(drain(*good), alone(6, 5));
}

TEST_F(SchedulerTest, DestructionEndsWhatRuns) {
  const auto running = request(6, 50), waiting = request(6, 50);
  {
    options.max_sequences = 1;
    Scheduler scheduler(*model.decoder, *tokenizer, options);
    scheduler.add(running);
    scheduler.add(waiting);
    scheduler.step();
  }
  running->queue.pop();
  EXPECT_MC_ERROR(running->queue.pop(), ErrorCode::cancelled, "closed");
  EXPECT_MC_ERROR(waiting->queue.pop(), ErrorCode::cancelled, "closed");
}

TEST_F(SchedulerTest, ScoresAreTheReferences) {
  const Score score = score_tokens(*model.decoder, model.prompt(), 5, 128, simd::KvType::f32);
  for (std::size_t i = 1; i < score.logprobs.size(); ++i)
    EXPECT_NEAR(*score.logprobs[i], model.reference["logprobs"][i].get<double>(), 2e-4);
  for (std::size_t i = 0; i < score.top.size(); ++i) {
    ASSERT_EQ(score.top[i].size(), 5u);
    EXPECT_NEAR(score.top[i][0].logprob, model.reference["top"][i][0][1].get<double>(), 2e-4);
  }
  EXPECT_MC_ERROR(score_tokens(*model.decoder, {}, 5, 128, simd::KvType::f32), ErrorCode::invalid_argument,
                  "empty");
  EXPECT_MC_ERROR(score_tokens(*model.decoder, model.prompt(), 5, 8, simd::KvType::f32),
                  ErrorCode::context_overflow, "8");
}

}  // namespace
}  // namespace metal_candle
