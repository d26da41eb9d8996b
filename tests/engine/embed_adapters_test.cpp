// Adapters on encoders: vectors that PEFT and sentence-transformers computed
// (scripts/golden/embedding_adapters.py), and what the model does with several of them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "core/json.h"
#include "metal_candle/embed.h"
#include "metal_candle/model.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;
using Rows = std::vector<std::vector<float>>;

const fs::path kGolden = MC_GOLDEN_DIR "/embeddings";
constexpr float kTolerance = 5e-5f;  // as in embed_test

Json json(const fs::path& path) { return Json::parse(std::ifstream(path)); }

std::shared_ptr<EmbeddingModel> load(const std::string& name, EmbeddingDType dtype = EmbeddingDType::f32) {
  EmbeddingLoadOptions options;
  options.dtype = dtype;
  options.threads = 2;
  return EmbeddingModel::load(kGolden / name, options);
}

std::shared_ptr<const Adapter> adapter(const std::string& name) {
  return Adapter::load(kGolden / "adapters" / name);
}

std::vector<std::string> texts_of(const std::string& model) {
  return json(kGolden / model / "reference.json")["texts"];
}

Embeddings embed(const EmbeddingModel& model, const std::vector<std::string>& texts,
                 const AdapterChoice& adapters = {}) {
  EmbedOptions options;
  options.adapters = adapters;
  return model.embed(std::span<const std::string>(texts), options);
}

class EmbedAdapter : public testing::TestWithParam<const char*> {
 protected:
  const Json golden = json(kGolden / "adapters" / GetParam() / "reference.json");
  const std::string model = golden["model"];
  const std::vector<std::string> texts = texts_of(model);
  const Rows expected = golden["vectors"];
};

TEST_P(EmbedAdapter, IsWhatPeftComputes) {
  const Embeddings got = embed(*load(model), texts, std::vector<AdapterUse>{{adapter(GetParam()), 1}});
  ASSERT_EQ(got.rows, expected.size());
  for (std::size_t i = 0; i < got.rows; ++i)
    for (std::size_t c = 0; c < got.columns; ++c)
      ASSERT_NEAR(got.row(i)[c], expected[i][c], kTolerance) << '"' << texts[i] << "\", component " << c;
}

TEST_P(EmbedAdapter, RoundedProductsPointTheSameWay) {
  for (const auto& [dtype, least] :
       {std::pair{EmbeddingDType::bf16, 0.998f}, {EmbeddingDType::int8, 0.99f}}) {
    const Embeddings got =
        embed(*load(model, dtype), texts, std::vector<AdapterUse>{{adapter(GetParam()), 1}});
    for (std::size_t i = 0; i < got.rows; ++i)
      EXPECT_GT(cosine_similarity(got.row(i), expected[i]), least) << '"' << texts[i] << '"';
  }
}

TEST_P(EmbedAdapter, ATextIsTheSameAloneAndInAnyBatch) {
  const auto encoder = load(model, EmbeddingDType::int8);
  encoder->apply_adapter(adapter(GetParam()));
  std::vector<std::string> many;
  for (int i = 0; i < 20; ++i) many.insert(many.end(), texts.begin(), texts.end());
  const Embeddings batch = embed(*encoder, many);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::vector<float> alone = encoder->embed(texts[i]);
    for (std::size_t j = i; j < many.size(); j += texts.size())
      for (std::size_t c = 0; c < alone.size(); ++c) ASSERT_NEAR(alone[c], batch.row(j)[c], 1e-6f);
  }
}

INSTANTIATE_TEST_SUITE_P(Adapters, EmbedAdapter,
                         testing::Values("bert", "bert-tokens", "mpnet", "mpnet-attention", "xlm-roberta",
                                         "xlm-roberta-layer", "modernbert", "modernbert-dora",
                                         "modernbert-saved", "nomic_bert", "qwen3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(EmbedAdapters, AreAppliedRemovedAndChosenByCall) {
  const auto model = load("bert");
  const std::vector<std::string> texts = texts_of("bert");
  AdapterRegistry registry;
  registry.load_adapter("a", kGolden / "adapters/bert");
  registry.load_adapter("b", kGolden / "adapters/bert-tokens");
  const std::vector<float> plain = embed(*model, texts).values;
  const std::vector<float> with_a = embed(*model, texts, registry.resolve("a")).values;
  const std::vector<float> with_b = embed(*model, texts, registry.resolve("b")).values;
  EXPECT_NE(with_a, plain);
  EXPECT_NE(with_b, plain);

  EXPECT_FALSE(model->has_adapter());
  model->apply_adapter(registry.get_adapter("a"));
  EXPECT_TRUE(model->has_adapter());
  EXPECT_EQ(embed(*model, texts).values, with_a);
  EXPECT_EQ(embed(*model, texts, registry.resolve("b")).values, with_b);
  EXPECT_EQ(embed(*model, texts, std::vector<AdapterUse>{}).values, plain);
  model->apply_adapter(registry.get_adapter("a"), 0);
  const Embeddings nothing = embed(*model, texts);
  for (std::size_t i = 0; i < plain.size(); ++i) ASSERT_NEAR(nothing.values[i], plain[i], 1e-6f);
  model->remove_adapter();
  EXPECT_EQ(embed(*model, texts).values, plain);

  const std::vector<float> both = embed(*model, texts, registry.resolve("a,b:0.5")).values;
  EXPECT_NE(both, with_a);
  EXPECT_EQ(both, embed(*model, texts, registry.resolve("a,b:0.5")).values);
  // Half twice is once.
  const std::vector<float> halves = embed(*model, texts, registry.resolve("a:0.5,a:0.5")).values;
  for (std::size_t i = 0; i < halves.size(); ++i) ASSERT_NEAR(halves[i], with_a[i], 1e-5f);
}

TEST(EmbedAdapters, ThreadsMayUseDifferentOnes) {
  const auto model = load("bert");
  const std::vector<std::string> texts = texts_of("bert");
  const AdapterChoice choices[] = {std::vector<AdapterUse>{}, std::vector<AdapterUse>{{adapter("bert"), 1}},
                                   std::vector<AdapterUse>{{adapter("bert-tokens"), 0.5f}}};
  std::vector<std::thread> threads;
  for (const AdapterChoice& choice : choices)
    threads.emplace_back([&, expected = embed(*model, texts, choice).values] {
      for (int i = 0; i < 20; ++i) EXPECT_EQ(embed(*model, texts, choice).values, expected);
    });
  for (std::thread& t : threads) t.join();
}

TEST(EmbedAdapters, WhatDoesNotFitIsAnErrorThatNamesTheModule) {
  const auto bert = load("bert");
  EXPECT_MC_ERROR(bert->apply_adapter(adapter("mpnet-attention")), ErrorCode::invalid_argument,
                  "encoder.layer.0.attention.attn", "no such module");
  EXPECT_MC_ERROR(bert->apply_adapter(adapter("modernbert")), ErrorCode::invalid_argument, "no such module");
  EXPECT_MC_ERROR(bert->apply_adapter(adapter("qwen3")), ErrorCode::invalid_argument, "no such module");
  EXPECT_FALSE(bert->has_adapter());
  // The decoders' models refuse an encoder's.
  const auto decoder = Model::load(MC_GOLDEN_DIR "/models/qwen3");
  EXPECT_MC_ERROR(decoder->apply_adapter(adapter("bert")), ErrorCode::invalid_argument, "no such module");
}

TEST(EmbedAdapters, OneThatLacksATargetIsAnError) {
  const test::TempDir folder;
  fs::copy(kGolden / "adapters/xlm-roberta-layer", folder.path() / "lora");
  Json config = json(folder.path() / "lora/adapter_config.json");
  config["layers_to_transform"] = nullptr;
  std::ofstream(folder.path() / "lora/adapter_config.json") << config;
  EXPECT_MC_ERROR(load("xlm-roberta")->apply_adapter(Adapter::load(folder.path() / "lora")),
                  ErrorCode::invalid_argument, "encoder.layer.0.attention.self.key", "no matrices");
}

TEST(EmbedAdapters, AreWrittenAsPeftUnderTheirOwnNames) {
  const test::TempDir folder;
  const auto original = adapter("modernbert");
  EXPECT_EQ(original->info().modules.front().name, "layers.0.attn.Wo");
  original->save(folder.path() / "copy", "peft");
  EXPECT_EQ(Adapter::load(folder.path() / "copy")->info().hash, original->info().hash);
  EXPECT_MC_ERROR(original->save(folder.path() / "copy.gguf", "gguf", {"llama", 8}), ErrorCode::unsupported,
                  "encoder");
  const auto sum = mix_adapters({{original, 0.5f}, {original, 0.5f}});
  const auto model = load("modernbert");
  const std::vector<std::string> texts = texts_of("modernbert");
  const Embeddings once = embed(*model, texts, std::vector<AdapterUse>{{original, 1}});
  const Embeddings mixed = embed(*model, texts, std::vector<AdapterUse>{{sum, 1}});
  for (std::size_t i = 0; i < once.values.size(); ++i)
    ASSERT_NEAR(once.values[i], mixed.values[i], kTolerance);
}

}  // namespace
}  // namespace metal_candle
