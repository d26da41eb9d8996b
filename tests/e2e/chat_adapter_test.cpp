// chat --adapter and /adapter NAME on a tiny model that has a chat template, as a user types them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "e2e/run_program.h"
#include "e2e/tiny_model.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using ::testing::HasSubstr;

class ChatAdapter : public testing::Test {
 protected:
  ChatAdapter() {
    GgufBuilder gguf = TinyModel{}.build();
    gguf.set("tokenizer.chat_template", std::string("{% for m in messages %}{{ m.content }}|{% endfor %}"));
    gguf.write(model);
    for (unsigned seed : {1, 2}) write_adapter(seed);
  }

  // Rank 2 on the last projection, in llama.cpp's own format: large enough to change what is said.
  void write_adapter(unsigned seed) const {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 2);
    std::vector<float> a(2 * 64), b(32 * 2);
    for (float& x : a) x = normal(random);
    for (float& x : b) x = normal(random);
    GgufBuilder gguf;
    gguf.set("general.architecture", std::string("llama")).set("general.type", std::string("adapter"));
    gguf.set("adapter.type", std::string("lora")).set("adapter.lora.alpha", 2.0f);
    gguf.tensor("blk.0.ffn_down.weight.lora_a", DType::f32, {2, 64}, a);
    gguf.tensor("blk.0.ffn_down.weight.lora_b", DType::f32, {32, 2}, b);
    gguf.write(path(seed));
  }
  std::string path(unsigned seed) const { return dir / ("adapter" + std::to_string(seed) + ".gguf"); }

  RunResult chat(const std::string& input) const {
    return run_program({"chat", "-m", model, "-n", "12", "--adapter", "one=" + path(1), "--adapter",
                        "two=" + path(2) + ":0.5"},
                       {.input = input});
  }
  std::string answer(const std::vector<std::string>& adapter) const {
    std::vector<std::string> arguments{"generate", "-m", model, "--chat", "-p", "aa", "-n", "12", "-q"};
    arguments.insert(arguments.end(), adapter.begin(), adapter.end());
    const RunResult result = run_program(arguments);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  }

  TempDir dir;
  const std::string model = dir / "model.gguf";
};

TEST_F(ChatAdapter, StartsOnTheFirstAndSwitchesByName) {
  const std::string one = answer({"--adapter", "a=" + path(1)}),
                    two = answer({"--adapter", "a=" + path(2) + ":0.5"}), plain = answer({});
  EXPECT_NE(one, two);
  EXPECT_NE(one, plain);
  EXPECT_NE(two, plain);
  const RunResult r = chat("aa\n/reset\n/adapter two\naa\n/reset\n/adapter\naa\n/reset\n/adapter one\naa\n");
  EXPECT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.out, one + two + plain + one);
}

TEST_F(ChatAdapter, AnUnknownNameIsAnErrorAndChangesNothing) {
  const RunResult r = chat("/adapter three\naa\n");
  EXPECT_THAT(r.err, HasSubstr("\"three\"; there are: one two"));
  EXPECT_EQ(r.out, answer({"--adapter", "a=" + path(1)}));
}

}  // namespace
}  // namespace metal_candle::test
