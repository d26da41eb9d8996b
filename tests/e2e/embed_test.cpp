// embed, similarity and rerank as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>

#include "core/json.h"
#include "e2e/run_program.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using ::testing::HasSubstr;

const std::string kBert = MC_GOLDEN_DIR "/embeddings/bert";

RunResult embed(std::vector<std::string> arguments, const RunOptions& options = {}) {
  arguments.insert(arguments.begin(), {"embed", "--model", kBert, "--dtype", "f32"});
  return run_program(arguments, options);
}

Json golden() { return Json::parse(std::ifstream(kBert + "/reference.json")); }

std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

std::vector<float> floats(std::string_view bytes) {
  std::vector<float> out(bytes.size() / sizeof(float));
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

TEST(Embed, ALineIsATextAndAnswersInOrder) {
  const Json reference = golden();
  std::string input;
  for (const std::string text : reference["texts"]) input += text + "\n";
  const RunResult r = embed({}, {.input = input});
  EXPECT_EQ(r.code, 0) << r.err;
  const auto out = lines(r.out);
  ASSERT_EQ(out.size(), reference["texts"].size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const Json line = Json::parse(out[i]);
    EXPECT_EQ(line["index"], i);
    ASSERT_EQ(line["embedding"].size(), 32u);
    for (std::size_t c = 0; c < 32; ++c)
      EXPECT_NEAR(line["embedding"][c].get<double>(), reference["vectors"][i][c].get<double>(), 5e-5);
  }
}

TEST(Embed, JsonLinesCarryTextAndPromptName) {
  const RunResult r = embed(
      {}, {.input = "the cat\n{\"text\":\"the cat\"}\n{\"text\":\"the cat\",\"prompt_name\":\"query\"}\n"
                    "{\"text\":\"ask: the cat\"}"});
  EXPECT_EQ(r.code, 0) << r.err;
  const auto out = lines(r.out);
  ASSERT_EQ(out.size(), 4u);
  const auto vector = [&](std::size_t i) { return Json::parse(out[i])["embedding"]; };
  EXPECT_EQ(vector(0), vector(1));
  EXPECT_NE(vector(0), vector(2));
  EXPECT_EQ(vector(2), vector(3));
  EXPECT_EQ(embed({"--prompt-name", "query"}, {.input = "the cat"}).out,
            embed({"--prompt", "ask: "}, {.input = "the cat"}).out);
}

TEST(Embed, FilesHoldTheSameNumbers) {
  const TempDir folder;
  const std::string input = "the cat\nthe dog\na river\n";
  std::vector<float> expected;
  for (const std::string& line : lines(embed({}, {.input = input}).out)) {
    const Json parsed = Json::parse(line);
    for (const Json& value : parsed["embedding"]) expected.push_back(value.get<float>());
  }
  for (const std::string name : {"v.npy", "v.safetensors"}) {
    const auto path = folder.path() / name;
    const RunResult r = embed({"--output", path.string()}, {.input = input});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(r.out, "");
    const std::string bytes = read(path);
    ASSERT_EQ(bytes.size(), 128 + 3 * 32 * 4u);
    EXPECT_THAT(bytes.substr(0, 128), HasSubstr("3, 32"));
    EXPECT_EQ(floats(std::string_view(bytes).substr(128)), expected);
  }
  EXPECT_EQ(embed({"--output", (folder.path() / "v.txt").string()}, {.input = input}).code, 2);
}

TEST(Embed, OutputTypesAndDimensions) {
  const std::string input = "the cat\n";
  const auto vector = [&](std::vector<std::string> flags) {
    const RunResult r = embed(std::move(flags), {.input = input});
    EXPECT_EQ(r.code, 0) << r.err;
    return Json::parse(r.out)["embedding"];
  };
  const Json full = vector({});
  const Json bits = vector({"--output-type", "binary"});
  ASSERT_EQ(bits.size(), 4u);
  for (std::size_t c = 0; c < 32; ++c)
    EXPECT_EQ(bits[c / 8].get<unsigned>() >> (7 - c % 8) & 1, full[c].get<double>() > 0);
  const Json codes = vector({"--output-type", "int8"});
  double largest = 0;
  for (const Json& code : codes) largest = std::max(largest, std::abs(code.get<double>()));
  EXPECT_EQ(largest, 127);
  EXPECT_EQ(vector({"--dimensions", "16"}).size(), 16u);
}

TEST(Embed, ManyLinesStreamInBoundedMemory) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer keeps freed memory and shadows of it";
#endif
  const std::string line = "the cat sat on the mat by the river bank\n";
  std::string input;
  for (int i = 0; i < 60000; ++i) input += line;
  const TempDir folder;
  const RunResult few = embed({"--output", (folder.path() / "few.npy").string()},
                              {.input = input.substr(0, 5000 * line.size())});
  const RunResult many = embed({"--output", (folder.path() / "many.npy").string()}, {.input = input});
  EXPECT_EQ(many.code, 0) << many.err;
  EXPECT_EQ(read(folder.path() / "many.npy").size(), 128 + 60000 * 32 * 4u);
  EXPECT_LT(many.peak_bytes, few.peak_bytes + (8u << 20)) << "60,000 lines against 5,000";
}

TEST(Embed, ErrorsAreOneLineAndLeaveNoFile) {
  const TempDir folder;
  const auto path = (folder.path() / "v.npy").string();
  const auto fails = [&](const std::string& input, const std::string& part,
                         std::vector<std::string> flags = {}) {
    flags.insert(flags.end(), {"--output", path});
    const RunResult r = embed(flags, {.input = input});
    EXPECT_EQ(r.code, 2);
    EXPECT_EQ(lines(r.err).size(), 1u) << r.err;
    EXPECT_THAT(r.err, HasSubstr(part));
    EXPECT_FALSE(std::filesystem::exists(path));
  };
  fails("", "no line to embed");
  fails("ok\n{\"text\":1}\n", "line 2");
  fails("{\"txt\":\"a\"}", "needs \"text\"");
  fails("{broken", "line 1");
  fails("a", "no prompt named 'x'", {"--prompt-name", "x"});
  fails("a", "has 32", {"--dimensions", "64"});
  fails("a", "no room", {"--max-length", "2"});
  const RunResult missing = run_program({"embed", "-m", "/no/such/model"}, {.input = "a"});
  EXPECT_EQ(missing.code, 2);
  EXPECT_THAT(missing.err, HasSubstr("/no/such/model"));
}

TEST(Embed, AdaptersAddUp) {
  const std::string lora = MC_GOLDEN_DIR "/embeddings/adapters/bert";
  const Json reference = Json::parse(std::ifstream(lora + "/reference.json"));
  const std::string text = golden()["texts"][0];
  const auto vector = [&](std::vector<std::string> flags) {
    const RunResult r = embed(std::move(flags), {.input = text});
    EXPECT_EQ(r.code, 0) << r.err;
    return Json::parse(r.out)["embedding"].get<std::vector<double>>();
  };
  const auto once = vector({"--adapter", "a=" + lora});
  const auto halves = vector({"--adapter", "a=" + lora + ":0.5", "--adapter", "b=" + lora + ":0.5"});
  for (std::size_t c = 0; c < once.size(); ++c) {
    EXPECT_NEAR(once[c], reference["vectors"][0][c].get<double>(), 5e-5);
    EXPECT_NEAR(halves[c], once[c], 1e-5);
  }
  const RunResult r =
      embed({"--adapter", "a=" MC_GOLDEN_DIR "/embeddings/adapters/modernbert"}, {.input = text});
  EXPECT_EQ(r.code, 2);
  EXPECT_THAT(r.err, HasSubstr("layers.0.attn.Wo: the model has no such module"));
}

TEST(Similarity, OfATextWithItselfIsOne) {
  const auto run = [](const std::string& a, const std::string& b) {
    const RunResult r = run_program({"similarity", "-m", kBert, a, b});
    EXPECT_EQ(r.code, 0) << r.err;
    return r.out;
  };
  EXPECT_EQ(run("the cat", "the cat"), "1.000000\n");
  EXPECT_LT(std::stod(run("the cat", "money, money, 12")), 0.999);
}

TEST(Rerank, PrintsTheBestFirst) {
  const RunResult r =
      run_program({"rerank", "-m", MC_GOLDEN_DIR "/embeddings/bert-cross", "--query", "who sat on the mat?"},
                  {.input = "the dog\na river bank\nmoney\n"});
  EXPECT_EQ(r.code, 0) << r.err;
  const auto out = lines(r.out);
  ASSERT_EQ(out.size(), 3u);
  double last = 1;
  for (const std::string& line : out) {
    const Json entry = Json::parse(line);
    EXPECT_LE(entry["score"].get<double>(), last);
    last = entry["score"].get<double>();
  }
  const RunResult top = run_program({"rerank", "-m", kBert, "--query", "the dog", "--top", "1"},
                                    {.input = "a river bank\nthe dog\nmoney\n"});
  EXPECT_EQ(lines(top.out).size(), 1u);
  EXPECT_EQ(run_program({"rerank", "-m", kBert, "--query", "x"}, {.input = ""}).code, 2);
}

}  // namespace
}  // namespace metal_candle::test
