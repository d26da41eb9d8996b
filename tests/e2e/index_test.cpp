// index build, add and query as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "e2e/run_program.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using ::testing::HasSubstr;

const std::string kModel = MC_GOLDEN_DIR "/embeddings/modernbert";  // no prompts: a text finds itself

class Index : public testing::Test {
 protected:
  TempDir folder;
  std::string index = (folder / "my.index").string(), texts = (folder / "texts").string();

  void SetUp() override {
    folder.write("texts/cats.txt", "the cat sat on the mat.\n\nwho is it?\n");
    folder.write("texts/deep/banks.txt", "a river bank\r\n\r\nmoney in a bank, 42 times");
    folder.write("texts/binary", std::string_view("\0\1\2", 3));
    folder.write("texts/empty.txt", "");
  }
  RunResult run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "index");
    arguments.insert(arguments.end(), {"--index", index});
    return run_program(arguments);
  }
};

TEST_F(Index, BuildQueryChangeAddQuery) {
  const RunResult built = run({"build", "-m", kModel, texts});
  EXPECT_EQ(built.code, 0) << built.err;
  EXPECT_THAT(built.err, HasSubstr("2 files indexed, 4 passages in all; 1 are not UTF-8 text"));
  const RunResult found = run({"query", "a river bank", "--top", "2"});
  EXPECT_EQ(found.code, 0) << found.err;
  const auto out = lines(found.out);
  ASSERT_EQ(out.size(), 2u);
  const Json best = Json::parse(out[0]);
  EXPECT_EQ(best["text"], "a river bank");
  EXPECT_THAT(best["file"].get<std::string>(), HasSubstr("deep/banks.txt"));
  EXPECT_EQ(best["passage"], 0);
  EXPECT_NEAR(best["score"].get<double>(), 1, 1e-5);

  EXPECT_THAT(run({"add", texts}).err, HasSubstr("0 files indexed, 4 passages"));
  folder.write("texts/cats.txt", "the dog, the dog and the dog");
  EXPECT_THAT(run({"add", texts}).err, HasSubstr("1 files indexed, 3 passages"));
  EXPECT_EQ(Json::parse(lines(run({"query", "the dog, the dog and the dog"}).out).at(0))["passage"], 0);
}

TEST_F(Index, AKilledBuildKeepsWhatItFinishedAndGoesOn) {
  constexpr int kFiles = 300;
  for (int i = 0; i < kFiles; ++i)
    folder.write("many/" + std::to_string(i), "the dog sat on mat " + std::to_string(i));
  const std::string many = (folder / "many").string();
  const auto some_are_written = [&] {  // the empty tables take 28 KB
    std::error_code missing;
    const auto bytes = std::filesystem::file_size(index + "/index.sqlite", missing);
    return !missing && bytes > 36 << 10;
  };
  ASSERT_TRUE(run_and_kill({"index", "build", "-m", kModel, many, "--index", index}, some_are_written));
  const RunResult asked = run({"query", "the dog"});
  EXPECT_EQ(asked.code, 2);
  EXPECT_EQ(lines(asked.err).size(), 1u) << asked.err;
  ASSERT_THAT(asked.err, HasSubstr("interrupted"));
  const int kept = std::atoi(asked.err.c_str() + asked.err.find('(', asked.err.find("interrupted")) + 1);
  EXPECT_GT(kept, 0);
  EXPECT_LT(kept, kFiles);
  const RunResult added = run({"add", many});
  EXPECT_THAT(added.err, HasSubstr(std::to_string(kFiles - kept) + " files indexed, 300 passages in all"));
  EXPECT_EQ(Json::parse(lines(run({"query", "the dog sat on mat 42"}).out).at(0))["text"],
            "the dog sat on mat 42");
}

TEST_F(Index, ErrorsAreOneLine) {
  const auto fails = [&](std::vector<std::string> arguments, const std::string& part) {
    const RunResult r = run(std::move(arguments));
    EXPECT_EQ(r.code, 2);
    EXPECT_EQ(lines(r.err).size(), 1u) << r.err;
    EXPECT_THAT(r.err, HasSubstr(part));
  };
  fails({"query", "x"}, "index build");
  fails({"build", "-m", kModel, texts + "/none"}, "no such file or folder");
  fails({"query", "x"}, "index build");
  EXPECT_EQ(run({"build", "-m", kModel, texts}).code, 0);
  fails({"build", "-m", kModel, texts}, "index add");
  fails({"query", "x", "-m", MC_GOLDEN_DIR "/embeddings/xlm-roberta"}, "32 values");
  fails({"add", texts, "-m", MC_GOLDEN_DIR "/embeddings/xlm-roberta"}, "32 values");
}

}  // namespace
}  // namespace metal_candle::test
