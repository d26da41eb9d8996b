// tokenize, score, bench, inspect and the program as a whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/json.h"
#include "e2e/run_program.h"
#include "metal_candle/version.h"

namespace metal_candle::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

RunResult run(const std::string& verb, std::vector<std::string> arguments, const RunOptions& options = {}) {
  arguments.insert(arguments.begin(), {verb, "--model", demo_model()});
  return run_program(arguments, options);
}

const char* const kText =
    "Hello world\n"
    "\n"
    "  two leading and trailing  \n"
    "tab\there\r\n"
    "naïve café, 你好, 👩‍👩‍👧 and \xF0\x9F\x87\xAB\xF0\x9F\x87\xB7\n"
    "<|im_start|>user<|im_end|>\n"
    "no newline at the end";

TEST(Tokenize, PrintsALineOfIdsPerLine) {
  const RunResult r = run("tokenize", {}, {.input = kText});
  EXPECT_EQ(r.code, 0) << r.err;
  const auto ids = lines(r.out);
  ASSERT_EQ(ids.size(), 7u);
  EXPECT_EQ(ids[0], "19556 905");
  EXPECT_EQ(ids[1], "");
  EXPECT_EQ(ids[5], "1 4093 2") << "special tokens are recognised";
  const auto plain = lines(run("tokenize", {"--no-special"}, {.input = kText}).out);
  ASSERT_EQ(plain.size(), 7u);
  EXPECT_EQ(plain[0], ids[0]);
  EXPECT_NE(plain[5], ids[5]);
  EXPECT_EQ(r.err, "");
}

TEST(Tokenize, DecodeIsTheInverse) {
  for (const bool special : {true, false}) {
    std::vector<std::string> flags;
    if (!special) flags.push_back("--no-special");
    const RunResult ids = run("tokenize", flags, {.input = kText});
    flags.push_back("--decode");
    const RunResult text = run("tokenize", flags, {.input = ids.out});
    EXPECT_EQ(text.code, 0) << text.err;
    EXPECT_EQ(text.out, std::string(kText) + "\n");
  }
}

TEST(Tokenize, InvalidUtf8IsReplacedOrRefused) {
  const RunResult replaced = run("tokenize", {}, {.input = "ok\na\xFFz\n"});
  EXPECT_EQ(replaced.code, 0);
  EXPECT_EQ(run("tokenize", {"--decode"}, {.input = replaced.out}).out, "ok\na\xEF\xBF\xBDz\n");
  const RunResult refused = run("tokenize", {"--strict-utf8"}, {.input = "ok\na\xFFz\n"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("line 2: byte 1"));
}

TEST(Tokenize, NoInputNoOutput) {
  const RunResult r = run("tokenize", {}, {.input = ""});
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.out, "");
}

TEST(Tokenize, RefusesIdsThatAreNone) {
  for (const char* input : {"1 x 2\n", "1.5\n", "99999999999\n"}) {
    const RunResult r = run("tokenize", {"--decode"}, {.input = input});
    EXPECT_EQ(r.code, 2) << input;
    EXPECT_THAT(r.err, HasSubstr("line 1")) << input;
  }
  EXPECT_EQ(run("tokenize", {"--decode"}, {.input = "49152\n"}).code, 2);
  EXPECT_EQ(run("tokenize", {"--decode"}, {.input = "-1\n"}).code, 2);
}

TEST(Score, KeepsItsContract) {
  const RunResult r = run("score", {},
                          {.input = "{\"text\":\"The capital of France is Paris.\"}\n"
                                    "\n"
                                    "{\"tokens\":[504,3575,282,4649]}\n"});
  ASSERT_EQ(r.code, 0) << r.err;
  const auto out = lines(r.out);
  ASSERT_EQ(out.size(), 2u);
  for (const std::string& line : out) {
    const Json json = Json::parse(line);
    const std::size_t n = json.at("tokens").size();
    ASSERT_EQ(json.at("logprobs").size(), n);
    ASSERT_EQ(json.at("top").size(), n);
    EXPECT_TRUE(json["logprobs"][0].is_null());
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(json["top"][i].size(), 5u);
      for (std::size_t k = 1; k < 5; ++k) {
        EXPECT_GE(json["top"][i][k - 1][1].get<double>(), json["top"][i][k][1].get<double>());
      }
      // Where the next token is among the best after this one, both places give the same number.
      if (i + 1 == n) continue;
      for (const Json& entry : json["top"][i]) {
        if (entry[0] != json["tokens"][i + 1]) continue;
        EXPECT_EQ(entry[1], json["logprobs"][i + 1]);
      }
    }
  }
  EXPECT_EQ(r.err, "");
}

TEST(Score, AgreesWithGenerate) {
  const RunResult g = run("generate", {"--prompt", "The capital of France is", "-n", "6", "--json"});
  std::vector<int> ids;
  std::vector<double> logprobs;
  for (const std::string& line : lines(g.out)) {
    const Json json = Json::parse(line);
    if (json.contains("summary")) break;
    ids.push_back(json["token"]);
    logprobs.push_back(json["logprob"]);
  }
  const std::string prompt = run("tokenize", {}, {.input = "The capital of France is"}).out;
  std::vector<int> all;
  for (std::istringstream in(prompt); int id : std::vector<int>(std::istream_iterator<int>(in), {}))
    all.push_back(id);
  const std::size_t n = all.size();
  all.insert(all.end(), ids.begin(), ids.end());
  const Json scored = Json::parse(run("score", {}, {.input = Json{{"tokens", all}}.dump() + "\n"}).out);
  // A prompt pass and single steps round activations differently: int8 blocks and an f16 cache move
  // log-probabilities by a few hundredths.
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_NEAR(scored["logprobs"][n + i].get<double>(), logprobs[i], 0.1);
  }
}

TEST(Score, NamesTheBadLine) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"not json", "line 2: invalid JSON"},  {"[]", "line 2: expected"},
      {R"({"text":1})", "line 2: \"text\""}, {R"({"tokens":"x"})", "line 2: \"tokens\""},
      {R"({"tokens":[49152]})", "49152"},    {R"({"tokens":[-1]})", "-1"},
      {R"({"tokens":[1.5]})", "1.5"},        {R"({"tokens":[]})", "line 2"},
      {R"({"tokens":[1e300]})", "line 2"},   {R"({"tokens":[1],"text":"a"})", "line 2: expected"},
      {"{\"text\":\"\xFF\"}", "line 2"},     {R"({"tokens":[18446744073709551615]})", "line 2"},
  };
  for (const auto& [line, message] : bad) {
    const RunResult r = run("score", {}, {.input = "{\"tokens\":[1,2]}\n" + line + "\n"});
    EXPECT_EQ(r.code, 2) << line;
    EXPECT_EQ(lines(r.out).size(), 1u) << "lines before it are answered";
    EXPECT_EQ(lines(r.err).size(), 1u) << r.err;
    EXPECT_THAT(r.err, HasSubstr(message)) << line;
  }
}

TEST(Bench, PrintsOneObjectOfScalars) {
  const RunResult r = run("bench", {"-p", "32", "-n", "4", "-b", "1", "-t", "2", "-r", "1", "--json"});
  ASSERT_EQ(r.code, 0) << r.err;
  ASSERT_EQ(lines(r.out).size(), 1u);
  const Json json = Json::parse(r.out);
  for (const char* key :
       {"prompt_tokens_per_second", "decode_tokens_per_second", "load_seconds", "peak_memory_bytes"}) {
    EXPECT_GT(json.at(key).get<double>(), 0) << key;
  }
  EXPECT_EQ(r.err, "");
}

TEST(Inspect, DescribesTheModel) {
  const Json json = Json::parse(run("inspect", {"--json"}).out);
  EXPECT_EQ(json["architecture"], "llama");
  EXPECT_EQ(json["format"], "gguf");
  EXPECT_EQ(json["layers"], 30);
  EXPECT_EQ(json["hidden_size"], 576);
  EXPECT_EQ(json["vocab_size"], 49152);
  EXPECT_EQ(json["tensors"].size(), 272u);
  std::uint64_t bytes = 0;
  for (const Json& tensor : json["tensors"]) bytes += tensor["bytes"].get<std::uint64_t>();
  EXPECT_GT(bytes, std::filesystem::file_size(demo_model()) * 9 / 10);
  EXPECT_LE(bytes, json["file_bytes"].get<std::uint64_t>());
  EXPECT_GT(json["memory"]["bytes"].get<std::uint64_t>(), bytes);
  const RunResult text = run_program({"inspect", demo_model()});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("llama"));
  EXPECT_THAT(text.out, HasSubstr("q4_1"));
}

TEST(Inspect, CountsWhatMlxPacked) {
  const auto parameters = [](const std::string& model) {
    const RunResult r = run_program({"inspect", std::string(MC_GOLDEN_DIR) + "/models/" + model, "--json"});
    EXPECT_EQ(r.code, 0) << r.err;
    return Json::parse(r.out)["parameters"].get<std::uint64_t>();
  };
  // hidden 64: embedding and head, per layer q and o (64 x 64), k and v (32 x 64), the MLP's three, four
  // norms.
  const std::uint64_t layer = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64 + 2 * 16;
  EXPECT_EQ(parameters("mlx-q4-g64"), 2 * 262 * 64 + 2 * layer + 64);
  // Tied, without head norms; one matrix of 8 bits, one not packed.
  EXPECT_EQ(parameters("mlx-mixed"), 262 * 64 + 2 * (layer - 2 * 16) + 64);
}

TEST(Inspect, DescribesEncodersOfBothFormats) {
  for (const char* file : {"bert", "bert/model.gguf"}) {
    const RunResult r =
        run_program({"inspect", std::string(MC_GOLDEN_DIR) + "/embeddings/" + file, "--json"});
    ASSERT_EQ(r.code, 0) << r.err;
    const Json json = Json::parse(r.out);
    EXPECT_EQ(json["architecture"], "bert") << file;
    EXPECT_EQ(json["layers"], 2) << file;
    EXPECT_EQ(json["hidden_size"], 32) << file;
    EXPECT_EQ(json["attention_heads"], 4) << file;
  }
}

TEST(Program, HelpAndVersionAreResults) {
  const RunResult version = run_program({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_EQ(version.out, std::string("metal-candle ") + kVersion + "\n");
  EXPECT_EQ(run_program({"--help"}).code, 0);
  for (const char* verb : {"generate", "tokenize", "score", "bench", "inspect"}) {
    const RunResult help = run_program({verb, "--help"});
    EXPECT_EQ(help.code, 0) << verb;
    EXPECT_THAT(help.out, HasSubstr("Examples:")) << verb;
    EXPECT_THAT(help.out, HasSubstr("--model")) << verb;
    EXPECT_EQ(help.err, "") << verb;
  }
}

TEST(Program, HelpIntoAFullDiskIsAFailure) {
  EXPECT_EQ(run_program({"--help"}, {.output_file = "/dev/full"}).code, 1);
}

// Mapped pages go back as they are repacked: never the file twice. Sanitizers keep memory of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(Program, LoadingTakesLittleMoreThanTheFile) {
  const RunResult r = run("score", {}, {.input = "{\"tokens\":[1]}\n"});
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_LE(static_cast<double>(r.peak_bytes),
            1.3 * static_cast<double>(std::filesystem::file_size(demo_model())) + 64e6);
}
#endif

}  // namespace
}  // namespace metal_candle::test
