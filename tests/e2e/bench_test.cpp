// bench with several requests at once.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "e2e/run_program.h"

namespace metal_candle::test {
namespace {

RunResult bench(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"bench", "-m", demo_model(), "-b", "3", "-r", "1"});
  return run_program(arguments, {});
}

TEST(BenchBatch, CountsTheTokensOfAllRequests) {
  const RunResult r = bench({"-p", "8", "-n", "16", "-t", "2", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  const auto json = Json::parse(r.out);
  EXPECT_EQ(json.at("batch"), 3);
  EXPECT_GT(json.at("prompt_tokens_per_second").get<double>(), 0);
  EXPECT_GT(json.at("decode_tokens_per_second").get<double>(), 0);
}

TEST(BenchBatch, AnErrorOfARequestEndsIt) {
  const RunResult r = bench({"-p", "64", "-n", "4", "-c", "48"});
  EXPECT_NE(r.code, 0);
  EXPECT_THAT(r.err, testing::HasSubstr("request 0 of the batch: the prompt's 64 tokens"));
}

}  // namespace
}  // namespace metal_candle::test
