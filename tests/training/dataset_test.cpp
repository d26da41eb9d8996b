// What lines of training data become: tokens, and which of them count.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "metal_candle/train.h"
#include "models/tokenizer_loader.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "training/batcher.h"

namespace metal_candle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kTemplate =
    R"({% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %})"
    R"({% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %})";

class DatasetTest : public testing::Test {
 protected:
  DatasetTest() {
    const std::filesystem::path golden = std::string(MC_GOLDEN_DIR) + "/models/smollm2";
    for (const char* name : {"config.json", "tokenizer.json"})
      std::filesystem::copy_file(golden / name, dir_ / name);
    write("tokenizer_config.json", R"({"eos_token":"<|im_end|>"})");
  }
  void with_template() { write("chat_template.jinja", kTemplate); }
  std::filesystem::path write(const std::string& name, const std::string& text) {
    std::ofstream(dir_ / name) << text;
    return dir_ / name;
  }
  Dataset read(const std::string& lines, const Dataset::Options& options = {}) {
    return Dataset(write("data.jsonl", lines), dir_ / ".", options);
  }
  std::string text(const TrainingExample& e) { return tokenizer()->decode(e.tokens); }
  // What counts, with a bar where something between does not.
  std::string counted(const TrainingExample& e) {
    std::string out;
    for (std::size_t i = 0; i < e.tokens.size(); ++i) {
      if (e.counts[i])
        out += tokenizer()->decode({&e.tokens[i], 1});
      else if (!out.empty() && out.back() != '|')
        out += '|';
    }
    return out;
  }
  std::unique_ptr<Tokenizer> tokenizer() { return tokenizer_from_directory(dir_.path()); }

  test::TempDir dir_;
};

TEST_F(DatasetTest, EveryAssistantTurnCounts) {
  with_template();
  const std::string line =
      R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"},)"
      R"({"role":"user","content":"more"},{"role":"assistant","content":"no"}]})";
  const TrainingExample masked = read(line, {.mask_prompt = true}).at(0);
  EXPECT_EQ(text(masked),
            "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
            "<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\nno<|im_end|>\n");
  EXPECT_EQ(counted(masked), "yo<|im_end|>\n|no<|im_end|>\n");
  const TrainingExample all = read(line).at(0);
  EXPECT_EQ(text(all), text(masked));
  EXPECT_FALSE(all.counts[0]);
  EXPECT_EQ(std::ranges::count(all.counts, true), static_cast<std::ptrdiff_t>(all.tokens.size() - 1));
}

TEST_F(DatasetTest, PromptsAndInstructionsBecomeConversations) {
  with_template();
  const Dataset data = read(R"({"prompt":"2+2?","completion":"4"})"
                            "\n\n"
                            R"({"instruction":"Add","input":"1 1","output":"2"})"
                            "\n",
                            {.mask_prompt = true});
  ASSERT_EQ(data.size(), 2u);
  EXPECT_EQ(counted(data.at(0)), "4<|im_end|>\n");
  EXPECT_EQ(text(data.at(1)), "<|im_start|>user\nAdd\n\n1 1<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n");
}

TEST_F(DatasetTest, WithoutATemplateTheyAreJoined) {
  const Dataset data = read(R"({"prompt":"ab","completion":"cd"})"
                            "\n"
                            R"({"text":"abcd"})",
                            {.mask_prompt = true});
  const std::string eos = "<|im_end|>";
  EXPECT_EQ(text(data.at(0)), "abcd" + eos);
  EXPECT_EQ(counted(data.at(0)), "cd" + eos);
  EXPECT_EQ(counted(data.at(1)), "bcd" + eos);
  EXPECT_THAT([&] { read(R"({"messages":[{"role":"assistant","content":"x"}]})").at(0); },
              testing::Throws<Error>(testing::Property(&Error::what, HasSubstr("no chat template"))));
}

TEST_F(DatasetTest, LongOnesAreCut) {
  const TrainingExample e = read(R"({"text":"abcdefgh"})", {.max_seq_length = 5}).at(0);
  EXPECT_EQ(text(e), "abcde");
  EXPECT_EQ(e.counts.size(), 5u);
}

TEST_F(DatasetTest, BadLinesAreNamedByNumber) {
  const auto message = [&](const std::string& lines) -> std::string {
    try {
      read(lines);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::malformed_file);
      return error.what();
    }
    return "";
  };
  const std::string good = "{\"text\":\"ab\"}\n";
  EXPECT_THAT(message(good + good + "{\"text\":"), HasSubstr("data.jsonl, line 3: invalid JSON"));
  EXPECT_THAT(message(good + "\n[1]\n"), HasSubstr("line 3: expected a JSON object"));
  EXPECT_THAT(message("{\"txt\":\"a\"}"), HasSubstr("line 1: expected \"messages\""));
  EXPECT_THAT(message("{\"prompt\":\"a\",\"completion\":3}"), HasSubstr("line 1: expected"));
  EXPECT_THAT(message("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}"), HasSubstr("assistant"));
  EXPECT_THAT(message("{\"messages\":[]}"), HasSubstr("list of messages"));
  EXPECT_THAT(message("\n"), HasSubstr("holds no examples"));
  const Dataset data = read(good + "oops\n{}\n" + good, {.skip_bad_lines = true});
  EXPECT_EQ(data.size(), 2u);
  EXPECT_EQ(data.skipped_lines(), 2u);
}

TEST_F(DatasetTest, BatchesCoverEachEpochInAnOrderOfItsOwn) {
  std::string lines;
  for (char c = 'a'; c < 'a' + 10; ++c) lines += std::string("{\"text\":\"") + c + "zz\"}\n";
  const Dataset data = read(lines);
  Batcher batcher(data, {.batch_size = 4, .seed = 3});
  EXPECT_EQ(batcher.batches_per_epoch(), 3u);
  const auto epoch = [&](Batcher& from) {
    std::vector<TokenId> firsts;
    for (int i = 0; i < 3; ++i) {
      const TrainingBatch batch = from.next();
      for (const PackedSequence& s : batch.sequences) firsts.push_back(batch.tokens[s.begin]);
    }
    return firsts;
  };
  const auto first = epoch(batcher), second = epoch(batcher);
  EXPECT_NE(first, second);
  EXPECT_THAT(second, testing::UnorderedElementsAreArray(first));
  EXPECT_EQ(std::set<TokenId>(first.begin(), first.end()).size(), 10u);
  Batcher later(data, {.batch_size = 4, .seed = 3});
  later.set_position({1, 0});
  EXPECT_EQ(epoch(later), second);
}

TEST_F(DatasetTest, PackingFillsBatches) {
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += "{\"text\":\"" + std::string(static_cast<std::size_t>(2 + i % 5), 'x') + "\"}\n";
  const Dataset data = read(lines);
  const BatcherOptions options{.batch_size = 2, .max_seq_length = 8, .pack = true};
  Batcher batcher(data, options);
  std::size_t batches = 0, sequences = 0;
  for (; batcher.position().epoch == 0; ++batches) {
    const TrainingBatch batch = batcher.next();
    EXPECT_LE(batch.tokens.size(), 16u);
    sequences += batch.sequences.size();
    std::size_t end = 0;
    for (const PackedSequence& s : batch.sequences) {
      EXPECT_EQ(s.begin, end);
      end = s.end;
    }
    EXPECT_EQ(end, batch.tokens.size());
  }
  EXPECT_EQ(sequences, 20u);
  EXPECT_EQ(Batcher(data, options).batches_per_epoch(), batches);
}

TEST(LRSchedulerTest, Courses) {
  LRScheduler s;
  EXPECT_EQ(s.factor(5, 10), 1);
  s.kind = LRScheduler::Kind::linear;
  EXPECT_EQ(s.factor(0, 10), 1);
  EXPECT_DOUBLE_EQ(s.factor(5, 10), 0.5);
  s.warmup = 4;
  EXPECT_DOUBLE_EQ(s.factor(0, 10), 0.2);
  EXPECT_DOUBLE_EQ(s.factor(4, 10), 1);
  EXPECT_DOUBLE_EQ(s.factor(7, 10), 0.5);
  s = {.kind = LRScheduler::Kind::cosine, .final_share = 0.1};
  EXPECT_DOUBLE_EQ(s.factor(10, 20), 0.55);
  EXPECT_NEAR(s.factor(19, 20), 0.1, 0.01);
  s = {.kind = LRScheduler::Kind::warmup_cosine};
  EXPECT_LT(s.factor(0, 100), 0.1);
  EXPECT_DOUBLE_EQ(s.factor(10, 100), 1);
}

}  // namespace
}  // namespace metal_candle
