#include "embeddings/ragged_runner.h"

#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "metal_candle/error.h"
#include "models/checkpoint.h"
#include "models/encoder_loader.h"

namespace metal_candle {
namespace {

const std::filesystem::path kModel = MC_GOLDEN_DIR "/embeddings/qwen3";

std::unique_ptr<RaggedRunner> runner(const std::filesystem::path& path) {
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(path));
  const std::shared_ptr<const WeightStore> store(checkpoint, &checkpoint->store());
  return std::make_unique<RaggedRunner>(load_encoder(store, checkpoint->encoder_spec(), Products::f32));
}

using Hidden = std::map<std::size_t, std::vector<float>>;

Hidden run(RaggedRunner& runner, const std::vector<EncoderInput>& inputs) {
  Hidden out;
  std::mutex mutex;
  runner.run(inputs, [&](std::size_t i, const float* hidden, std::size_t length) {
    const std::lock_guard lock(mutex);
    EXPECT_TRUE(out.try_emplace(i, hidden, hidden + length * runner.encoder().spec().hidden).second);
  });
  return out;
}

std::vector<EncoderInput> sequences() {
  std::vector<EncoderInput> out;
  for (std::size_t s = 0; s < 60; ++s) {
    EncoderInput input;
    for (std::size_t i = 0; i < 1 + s * 7 % 31; ++i)
      input.tokens.push_back(static_cast<TokenId>((s * 13 + i * i) % 105));
    out.push_back(std::move(input));
  }
  return out;
}

// The directory's vectors are those of sentence-transformers (tests/engine/embed_test.cpp).
TEST(RaggedRunner, ADecoderInGgufGivesTheSameHiddenStates) {
  const auto directory = runner(kModel), gguf = runner(kModel / "model.gguf");
  const auto inputs = sequences();
  const Hidden want = run(*directory, inputs), got = run(*gguf, inputs);
  ASSERT_EQ(want.size(), inputs.size());
  EXPECT_EQ(got, want);
}

TEST(RaggedRunner, ADecoderSeesNoLaterToken) {
  const auto model = runner(kModel);
  EncoderInput whole = sequences()[4], half = whole;
  half.tokens.resize(whole.tokens.size() / 2);
  const Hidden states = run(*model, {whole, half});
  for (std::size_t i = 0; i < states.at(1).size(); ++i) EXPECT_NEAR(states.at(0)[i], states.at(1)[i], 1e-5f);
}

TEST(RaggedRunner, RefusesATokenOutsideTheVocabulary) {
  const auto model = runner(kModel);
  for (const TokenId id : {-1, 105}) {
    try {
      run(*model, {{{1, id}, {}}});
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::malformed_file);
      EXPECT_NE(std::string(error.what()).find(std::to_string(id)), std::string::npos);
    }
  }
}

}  // namespace
}  // namespace metal_candle
