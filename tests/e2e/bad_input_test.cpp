// What users get wrong: one line on standard error, the right exit code, nothing on standard output, no
// crash.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "e2e/run_program.h"
#include "e2e/tiny_model.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

void expect_refused(const RunResult& r, int code, std::initializer_list<const char*> parts) {
  EXPECT_EQ(r.code, code) << r.err;
  EXPECT_EQ(r.out, "");
  EXPECT_EQ(lines(r.err).size(), 1u) << r.err;
  EXPECT_THAT(r.err, StartsWith("metal-candle: error: "));
  for (const char* part : parts) EXPECT_THAT(r.err, HasSubstr(part));
}

class BadInput : public testing::Test {
 protected:
  std::string write(const GgufBuilder& gguf) const { return gguf.write(dir_ / "model.gguf").string(); }
  static RunResult generate(const std::string& model, std::vector<std::string> more = {}) {
    std::vector<std::string> all{"generate", "--model",      model, "--prompt",
                                 "hi",       "--max-tokens", "3",   "--quiet"};
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all);
  }
  TempDir dir_;
};

TEST_F(BadInput, TheTinyModelItselfWorks) {
  const RunResult r = generate(write(TinyModel{}.build()));
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err, "");
}

TEST_F(BadInput, MissingFile) {
  for (const char* verb : {"generate", "tokenize", "score", "bench", "inspect"}) {
    expect_refused(run_program({verb, "--model", dir_ / "none.gguf"}), 2, {"none.gguf"});
  }
}

TEST_F(BadInput, AModelThatIsNotInTheCache) {
  const std::vector<std::string> home{"HF_HOME=" + dir_.path().string()};
  expect_refused(run_program({"inspect", "--model", "org/absent"}, {.environment = home}), 2,
                 {"org/absent", "hf download org/absent"});
}

TEST_F(BadInput, ACacheThatCannotBeWrittenDoesNotMatter) {  // nothing ever writes it
  const std::string model = write(TinyModel{}.build());
  for (const char* cache : {"/dev/null", "/proc/self"}) {
    const std::vector<std::string> home{std::string("HF_HOME=") + cache};
    const RunResult r =
        run_program({"generate", "--model", model, "--prompt", "hi", "--max-tokens", "1", "--quiet"},
                    {.environment = home});
    EXPECT_EQ(r.code, 0) << r.err;
    expect_refused(run_program({"inspect", "--model", "org/absent"}, {.environment = home}), 2,
                   {"org/absent"});
  }
}

TEST_F(BadInput, EmptyFileAndEmptyDirectory) {
  expect_refused(generate(dir_.write("model.gguf", "")), 2, {"model.gguf"});
  expect_refused(generate(dir_.path()), 2, {dir_.path().filename().c_str()});
}

TEST_F(BadInput, NotAModel) {
  expect_refused(generate(dir_.write("notes.txt", "Just some notes, nothing else in here.\n")), 2,
                 {"notes.txt"});
  GgufBuilder wrong = TinyModel{}.build();
  wrong.magic = "GGUX";
  expect_refused(generate(write(wrong)), 2, {"model.gguf"});
  wrong = TinyModel{}.build();
  wrong.version = 99;
  expect_refused(generate(write(wrong)), 2, {"model.gguf", "99"});
}

TEST_F(BadInput, TruncatedAtTwentyPlaces) {
  const std::string whole = read_text(write(TinyModel{}.build()));
  for (std::size_t i = 0; i < 20; ++i) {
    const std::string cut =
        dir_.write("cut.gguf", std::string_view(whole).substr(0, 1 + i * (whole.size() - 1) / 20));
    SCOPED_TRACE(i);
    expect_refused(generate(cut), 2, {"cut.gguf"});
    expect_refused(run_program({"inspect", cut}), 2, {"cut.gguf"});
  }
}

TEST_F(BadInput, AbsurdSizes) {
  GgufBuilder gguf = TinyModel{}.build();
  gguf.tensors[0].ne = {std::uint64_t{1} << 63, 1};
  expect_refused(generate(write(gguf)), 2, {"model.gguf", "token_embd.weight"});
  gguf = TinyModel{}.build();
  gguf.tensors[0].offset = std::uint64_t{1} << 63;
  expect_refused(generate(write(gguf)), 2, {"model.gguf", "token_embd.weight"});
  gguf = TinyModel{}.build();
  gguf.extra_tensors = std::uint64_t{1} << 62;
  expect_refused(generate(write(gguf)), 2, {"model.gguf"});
  gguf = TinyModel{}.build();
  gguf.extra_entries = std::uint64_t{1} << 62;
  expect_refused(generate(write(gguf)), 2, {"model.gguf"});
}

TEST_F(BadInput, UnknownArchitectureListsTheKnown) {
  TinyModel model;
  model.architecture = "quux";
  expect_refused(generate(write(model.build())), 2, {"quux", "llama", "qwen2", "mistral"});
}

// Others spell their settings otherwise, which must not be what is reported.
TEST_F(BadInput, UnknownArchitectureOfADirectory) {
  const std::string tensor(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})");
  std::string file{static_cast<char>(tensor.size()), 0, 0, 0, 0, 0, 0, 0};
  dir_.write("model.safetensors", file + tensor + std::string(4, 0));
  for (const char* config :
       {R"({"model_type":"gpt2","n_layer":2})",
        R"({"model_type":"gemma2","hidden_act":"gelu_pytorch_tanh","num_hidden_layers":2})"}) {
    dir_.write("config.json", config);
    expect_refused(generate(dir_.path()), 2, {"architecture 'g", "llama", "qwen2", "mistral"});
    const RunResult r = run_program({"inspect", dir_.path()});
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_THAT(r.out, HasSubstr("architecture  g"));
  }
}

TEST_F(BadInput, NoTokenizer) {
  TinyModel model;
  model.tokenizer = false;
  const std::string file = write(model.build());
  expect_refused(generate(file), 2, {"model.gguf", "tokenizer"});
  expect_refused(run_program({"tokenize", "--model", file}), 2, {"model.gguf", "tokenizer"});
}

TEST_F(BadInput, NoChatTemplate) {
  expect_refused(generate(write(TinyModel{}.build()), {"--chat"}), 2, {"chat template"});
}

TEST_F(BadInput, PromptOfNoTokens) {
  const std::string file = write(TinyModel{}.build());
  expect_refused(run_program({"generate", "--model", file, "--prompt", ""}), 2, {"prompt"});
  expect_refused(run_program({"generate", "--model", file}), 2, {"prompt"});
  expect_refused(run_program({"generate", "--model", file, "--prompt=", "--max-tokens=2"}), 2, {"prompt"});
}

TEST_F(BadInput, PromptLongerThanTheContext) {
  const std::string file = write(TinyModel{}.build());
  const std::string prompt(kTinyContext + 1, 'x');
  expect_refused(run_program({"generate", "--model", file, "--prompt", prompt}), 2, {"context", "65", "64"});
  expect_refused(run_program({"score", "--model", file}, {.input = "{\"text\":\"" + prompt + "\"}\n"}), 2,
                 {"context"});
}

TEST_F(BadInput, NanWeights) {
  TinyModel model;
  model.norm = NAN;
  const std::string file = write(model.build());
  for (const char* temperature : {"0", "1"}) {
    expect_refused(generate(file, {"--temp", temperature}), 2, {"NaN"});
  }
  expect_refused(run_program({"score", "--model", file}, {.input = "{\"tokens\":[1,2]}\n"}), 2, {"NaN"});
}

TEST_F(BadInput, FlagsOutOfRange) {
  const std::string file = write(TinyModel{}.build());
  const std::vector<std::pair<std::vector<std::string>, const char*>> table = {
      {{"--temp", "-1"}, "temperature"},
      {{"--temp", "warm"}, "--temp"},
      {{"--temp", "nan"}, "temperature"},
      {{"--top-p", "0"}, "top_p"},
      {{"--top-p", "1.5"}, "top_p"},
      {{"--top-k", "-1"}, "top_k"},
      {{"--min-p", "2"}, "min_p"},
      {{"--max-tokens", "0"}, "--max-tokens"},
      {{"--max-tokens", "x"}, "--max-tokens"},
      {{"--threads", "0"}, "--threads"},
      {{"--threads", "1000000000"}, "1024"},
      {{"--max-tokens", "4294967296"}, "1 to 1073741824"},
      {{"--ctx-size", "-5"}, "--ctx-size"},
      {{"--device", "tpu"}, "--device"},
      {{"--kv-dtype", "q2"}, "--kv-dtype"},
      {{"--seed", "x"}, "--seed"},
      {{"--seed", "-1"}, "--seed"},
      {{"--seed", "18446744073709551616"}, "--seed"},
      {{"--stop", ""}, "stop"},
      {{"--stop-token", "x"}, "--stop-token"},
      {{"--stop-token", "-1"}, "stop token -1"},
      {{"--logit-bias", "3"}, "--logit-bias"},
      {{"--logit-bias", "999=1"}, "999"},
      {{"--logprobs", "2"}, "--json"},
      {{"--system", "x"}, "--chat"},
      {{"--bogus"}, "--bogus"},
      {{"--repeat-penalty", "0"}, "repetition_penalty"},
  };
  for (const auto& [flags, part] : table) {
    SCOPED_TRACE(flags.front());
    expect_refused(generate(file, flags), 2, {part});
  }
}

TEST_F(BadInput, ANameThatIsTooLong) {
  const std::string name(300, 'a');
  for (const char* verb : {"generate", "tokenize", "score", "inspect", "embed", "train"}) {
    std::vector<std::string> command{verb, "--model", name};
    if (std::string(verb) == "train")
      command.insert(command.end(), {"--data", name, "--output", dir_ / "out"});
    SCOPED_TRACE(verb);
    expect_refused(run_program(command), 2, {"aaaa", "too long"});
  }
  expect_refused(run_program({"inspect", "org/" + name}), 2, {"hf download"});
}

TEST_F(BadInput, NoVerbOrAnUnknownOne) {
  expect_refused(run_program({}), 2, {"--help"});
  expect_refused(run_program({"sing"}), 2, {"--help"});
  expect_refused(run_program({"generate"}), 2, {"--model"});
}

TEST_F(BadInput, AHostileFileNameStaysOneLine) {
  expect_refused(run_program({"inspect", "no\nsuch\x1b[31mfile"}), 2, {"such"});
}

TEST_F(BadInput, MissingInputFile) {
  const std::string file = write(TinyModel{}.build());
  expect_refused(run_program({"score", "--model", file, dir_ / "none.jsonl"}), 2, {"none.jsonl"});
  expect_refused(run_program({"tokenize", "--model", file, dir_.path()}), 1, {"directory"});
}

}  // namespace
}  // namespace metal_candle::test
