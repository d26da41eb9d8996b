// generate, as users run it on the demo model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/json.h"
#include "e2e/run_program.h"

namespace metal_candle::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

RunResult generate(std::vector<std::string> arguments, const RunOptions& options = {}) {
  arguments.insert(arguments.begin(), {"generate", "--model", demo_model()});
  return run_program(arguments, options);
}

struct JsonRun {
  std::vector<Json> tokens;
  Json summary;
  std::string text;
  std::vector<int> ids;
};

JsonRun parse(const RunResult& run) {
  JsonRun out;
  const std::vector<std::string> all = lines(run.out);
  for (std::size_t i = 0; i < all.size(); ++i) {
    Json line = Json::parse(all[i]);
    if (i + 1 == all.size()) {
      out.summary = line.at("summary");
      break;
    }
    out.text += line.at("text").get<std::string>();
    out.ids.push_back(line.at("token").get<int>());
    out.tokens.push_back(std::move(line));
  }
  return out;
}

TEST(Generate, ChatIsTheModelsOwnTemplate) {
  const RunResult run =
      generate({"--chat", "--system", "You are terse.", "--prompt", "Say yes.", "-n", "16"});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_NE(run.out, "");
  EXPECT_THAT(run.err, HasSubstr("tokens/s"));
  EXPECT_EQ(lines(run.err).size(), 1u) << run.err;
  const RunResult raw = generate({"-n", "16"}, {.input = "<|im_start|>system\nYou are terse.<|im_end|>\n"
                                                         "<|im_start|>user\nSay yes.<|im_end|>\n"
                                                         "<|im_start|>assistant\n"});
  EXPECT_EQ(run.out, raw.out);
}

TEST(Generate, NeedsNothingFromItsEnvironment) {
  RunOptions bare;
  bare.empty_environment = true;
  const RunResult run = generate({"--prompt", "The capital of France is", "--max-tokens", "5"}, bare);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("Paris"));
}

TEST(Generate, ReadsThePromptFromStandardInputUnchanged) {
  const RunResult flag = generate({"--prompt", "One, two,\n three", "--max-tokens", "8", "--json"});
  const RunResult input = generate({"--max-tokens", "8", "--json"}, {.input = "One, two,\n three"});
  EXPECT_EQ(flag.code, 0) << flag.err;
  EXPECT_EQ(parse(flag).ids, parse(input).ids);
  EXPECT_EQ(parse(flag).summary["prompt_tokens"], parse(input).summary["prompt_tokens"]);
}

TEST(Generate, JsonHasALinePerTokenAndASummary) {
  const RunResult run =
      generate({"--chat", "--prompt", "Say yes.", "--max-tokens", "60", "--json", "--logprobs", "3"});
  ASSERT_EQ(run.code, 0) << run.err;
  const JsonRun json = parse(run);
  ASSERT_FALSE(json.tokens.empty());
  for (std::size_t i = 0; i < json.tokens.size(); ++i) {
    const Json& t = json.tokens[i];
    EXPECT_TRUE(t["token"].is_number_integer());
    EXPECT_TRUE(t["text"].is_string());
    EXPECT_TRUE(t["logit"].is_number());
    EXPECT_LE(t["logprob"].get<double>(), 0);
    // Both are f32 values printed exactly.
    EXPECT_NEAR(t["probability"].get<double>(), std::exp(t["logprob"].get<double>()), 1e-6);
    const bool last = i + 1 == json.tokens.size();
    EXPECT_EQ(t["is_eos"].get<bool>(), last && json.summary["finish_reason"] == "eos");
    ASSERT_EQ(t["top"].size(), 3u);
    EXPECT_EQ(t["top"][0][0], t["token"]) << "greedy takes the best";
    EXPECT_EQ(t["top"][0][1], t["logprob"]);
    EXPECT_GE(t["top"][0][1].get<double>(), t["top"][1][1].get<double>());
  }
  EXPECT_EQ(json.summary["generated_tokens"].get<std::size_t>(), json.tokens.size());
  EXPECT_GT(json.summary["prompt_tokens"].get<int>(), 0);
  EXPECT_GT(json.summary["prompt_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(json.summary["decode_tokens_per_second"].get<double>(), 0);
  const RunResult plain = generate({"--chat", "--prompt", "Say yes.", "--max-tokens", "60", "--quiet"});
  EXPECT_EQ(plain.out, json.text.ends_with("\n") ? json.text : json.text + "\n");
  EXPECT_EQ(plain.err, "");
}

TEST(Generate, SameSeedSameTextAndOtherSeedsDiffer) {
  const auto text = [](const char* seed) {
    return generate({"--prompt", "Once upon a time", "--max-tokens", "24", "--temp", "1", "--top-p", "0.95",
                     "--seed", seed})
        .out;
  };
  EXPECT_EQ(text("7"), text("7"));
  EXPECT_NE(text("7"), text("8"));
}

TEST(Generate, StopsBeforeAStopString) {
  const RunResult free = generate({"--prompt", "1, 2, 3, 4,", "--max-tokens", "24", "--json"});
  const std::string text = parse(free).text;
  const std::size_t at = text.find(", 7");
  ASSERT_NE(at, std::string::npos) << text;
  const RunResult run =
      generate({"--prompt", "1, 2, 3, 4,", "--max-tokens", "24", "--json", "--stop", "@@", "--stop", ", 7"});
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_EQ(parse(run).text, text.substr(0, at));
  EXPECT_EQ(parse(run).summary["finish_reason"], "stop");
}

TEST(Generate, StopsAtAStopToken) {
  const JsonRun free = parse(generate({"--prompt", "1, 2, 3, 4,", "--max-tokens", "24", "--json"}));
  const std::string token = std::to_string(free.ids.at(5));
  const JsonRun run =
      parse(generate({"--prompt", "1, 2, 3, 4,", "--max-tokens", "24", "--json", "--stop-token", token}));
  const auto first = std::find(free.ids.begin(), free.ids.end(), free.ids[5]);
  EXPECT_EQ(run.ids, std::vector<std::int32_t>(free.ids.begin(), first + 1));
  EXPECT_EQ(run.summary["finish_reason"], "stop");
}

TEST(Generate, LengthIsExact) {
  const JsonRun run = parse(generate({"--prompt", "The", "--max-tokens", "1", "--json"}));
  EXPECT_EQ(run.tokens.size(), 1u);
  EXPECT_EQ(run.summary["finish_reason"], "length");
}

TEST(Generate, ALogitBiasBansAToken) {
  const JsonRun first =
      parse(generate({"--prompt", "The capital of France is", "--max-tokens", "1", "--json"}));
  const std::string ban = std::to_string(first.ids.at(0)) + "=-inf";
  const JsonRun second = parse(
      generate({"--prompt", "The capital of France is", "--max-tokens", "1", "--json", "--logit-bias", ban}));
  EXPECT_NE(first.ids, second.ids);
}

TEST(Generate, CtrlCEndsWithTheSummaryAndExitCode130) {
  const RunResult run = generate({"--prompt", "Once", "--max-tokens", "2000", "--ignore-eos", "--json"},
                                 {.interrupt_at = "\"token\""});
  EXPECT_EQ(run.code, 130);
  const JsonRun json = parse(run);
  EXPECT_EQ(json.summary["finish_reason"], "cancelled");
  EXPECT_LT(json.tokens.size(), 2000u);
  EXPECT_EQ(json.summary["generated_tokens"].get<std::size_t>(), json.tokens.size());
  EXPECT_EQ(run.err, "");
}

TEST(Generate, UnwritableOutputIsAFailure) {
  const RunResult run = generate({"--prompt", "Once", "--max-tokens", "3"}, {.output_file = "/dev/full"});
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.err, StartsWith("metal-candle: error: cannot write to standard output"));
  EXPECT_EQ(lines(run.err).size(), 1u);
}

TEST(Generate, FilesOfOtherFormatsAndCachesAgreeOnTheBestToken) {
  std::vector<std::vector<int>> answers;
  for (const char* cache : {"f32", "f16", "bf16", "int8"}) {
    answers.push_back(
        parse(generate({"--prompt", "The capital of France is", "-n", "3", "--json", "--kv-dtype", cache}))
            .ids);
  }
  for (const auto& answer : answers) EXPECT_EQ(answer, answers[0]);
}

}  // namespace
}  // namespace metal_candle::test
