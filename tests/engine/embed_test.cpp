// EmbeddingModel and Reranker against sentence-transformers (scripts/golden/embeddings.py).
#include "metal_candle/embed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "core/json.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;
using Rows = std::vector<std::vector<float>>;

const fs::path kGolden = fs::path(MC_GOLDEN_DIR) / "embeddings";

// f32 throughout, sums in another order; components of these models reach 4.
constexpr float kTolerance = 5e-5f;

Json reference(const std::string& name) {
  std::ifstream file(kGolden / name / "reference.json");
  return Json::parse(file);
}

std::shared_ptr<EmbeddingModel> load(const fs::path& path, EmbeddingDType dtype = EmbeddingDType::f32) {
  EmbeddingLoadOptions options;
  options.dtype = dtype;
  return EmbeddingModel::load(path, options);
}

void expect_rows(const Embeddings& got, const Rows& expected, const std::vector<std::string>& texts) {
  ASSERT_EQ(got.rows, expected.size());
  for (std::size_t i = 0; i < got.rows; ++i) {
    ASSERT_EQ(got.columns, expected[i].size());
    for (std::size_t c = 0; c < got.columns; ++c)
      ASSERT_NEAR(got.row(i)[c], expected[i][c], kTolerance) << '"' << texts[i] << "\", component " << c;
  }
}

class EmbedGolden : public testing::TestWithParam<const char*> {
 protected:
  const Json golden = reference(GetParam());
  const std::vector<std::string> texts = golden["texts"];
  const Rows vectors = golden["vectors"];
  Embeddings embed(EmbeddingDType dtype) {
    return load(kGolden / GetParam(), dtype)->embed(std::span<const std::string>(texts));
  }
};

TEST_P(EmbedGolden, IsWhatSentenceTransformersComputes) {
  expect_rows(embed(EmbeddingDType::f32), vectors, texts);
}

// Random weights spread errors more than trained ones: MiniLM reaches 0.9999 and 0.998 (scripts/oracle).
TEST_P(EmbedGolden, RoundedProductsPointTheSameWay) {
  for (const auto& [dtype, least] :
       {std::pair{EmbeddingDType::bf16, 0.999f}, {EmbeddingDType::int8, 0.99f}}) {
    const Embeddings got = embed(dtype);
    for (std::size_t i = 0; i < got.rows; ++i)
      EXPECT_GT(cosine_similarity(got.row(i), vectors[i]), least) << '"' << texts[i] << '"';
  }
}

TEST_P(EmbedGolden, ATextIsTheSameAloneAndInAnyBatch) {
  for (const EmbeddingDType dtype : {EmbeddingDType::f32, EmbeddingDType::bf16, EmbeddingDType::int8}) {
    const auto model = load(kGolden / GetParam(), dtype);
    std::vector<std::string> many;
    for (int i = 0; i < 40; ++i) many.insert(many.end(), texts.begin(), texts.end());
    const Embeddings batch = model->embed(std::span<const std::string>(many));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const std::vector<float> alone = model->embed(texts[i]);
      for (std::size_t j = i; j < many.size(); j += texts.size())
        for (std::size_t c = 0; c < alone.size(); ++c) ASSERT_NEAR(alone[c], batch.row(j)[c], 1e-6f);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, EmbedGolden,
                         testing::Values("bert", "mpnet", "xlm-roberta", "modernbert", "nomic_bert", "qwen3"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

class EmbedTest : public testing::Test {
 protected:
  const Json golden = reference("bert");
  const std::vector<std::string> texts = golden["texts"];
  Embeddings embed(const EmbeddingModel& model, const EmbedOptions& options = {}) {
    return model.embed(std::span<const std::string>(texts), options);
  }
  /// A copy of bert whose files a test may change.
  fs::path copy() {
    fs::copy(kGolden / "bert", folder.path() / "bert", fs::copy_options::recursive);
    return folder.path() / "bert";
  }
  static void write(const fs::path& path, const std::string& text) { std::ofstream(path) << text; }
  test::TempDir folder;
};

TEST_F(EmbedTest, AGgufFileGivesTheSameVectors) {
  // llama.cpp's vocabulary marks no special token by its text, so those written in a text stay text.
  for (const char* name : {"bert", "nomic_bert"}) {
    const auto model = load(kGolden / name / "model.gguf");
    const Embeddings got = embed(*model);
    const Rows expected = reference(name)["vectors"];
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].find('[') != std::string::npos) continue;
      for (std::size_t c = 0; c < got.columns; ++c)
        ASSERT_NEAR(got.row(i)[c], expected[i][c], kTolerance) << name << ": " << texts[i];
    }
  }
}

TEST_F(EmbedTest, AGgufFileSaysHowToPool) {
  const fs::path file = folder.path() / "model.gguf";
  std::ostringstream content;
  content << std::ifstream(kGolden / "bert/model.gguf", std::ios::binary).rdbuf();
  std::string bytes = content.str();
  const std::string key = "bert.pooling_type";
  const std::size_t at = bytes.find(key) + key.size() + 4;  // past the value's type
  for (const auto& [type, mode] : {std::pair{2, "cls"}, {3, "lasttoken"}}) {
    bytes[at] = static_cast<char>(type);
    std::ofstream(file, std::ios::binary) << bytes;
    const Embeddings got = embed(*load(file));
    const Rows expected = golden["poolings"][mode];
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].find('[') != std::string::npos) continue;
      EXPECT_GT(cosine_similarity(got.row(i), expected[i]), 1 - 1e-6f) << mode << ": " << texts[i];
    }
  }
  bytes[at] = 4;
  std::ofstream(file, std::ios::binary) << bytes;
  EXPECT_MC_ERROR(load(file), ErrorCode::unsupported, "bert.pooling_type");
}

TEST_F(EmbedTest, EveryPoolingMode) {
  const fs::path model = copy();
  fs::remove(model / "model.gguf");
  for (const auto& [mode, vectors] : golden["poolings"].items()) {
    SCOPED_TRACE(mode);
    const bool prompted = mode == "mean without prompt";
    const Json config{{"pooling_mode", prompted ? "mean" : mode}, {"include_prompt", !prompted}};
    write(model / "1_Pooling/config.json", config.dump());
    EmbedOptions options;
    if (prompted) options.prompt_name = "query";
    expect_rows(embed(*load(model), options), vectors, texts);
  }
}

TEST_F(EmbedTest, PromptsAreTheModelsOrOnesOwn) {
  const auto model = load(kGolden / "bert");
  EmbedOptions named, own;
  named.prompt_name = "query";
  own.prompt = "ask: ";
  expect_rows(embed(*model, named), golden["query_vectors"], texts);
  expect_rows(embed(*model, own), golden["query_vectors"], texts);
  named.prompt_name = "none such";
  EXPECT_MC_ERROR(embed(*model, named), ErrorCode::invalid_argument, "passage, query");
}

TEST_F(EmbedTest, FewerDimensionsAreNormalisedAnew) {
  const auto model = load(kGolden / "bert");
  EmbedOptions options;
  options.dimensions = 16;
  expect_rows(embed(*model, options), golden["half"], texts);
  options.dimensions = 33;
  EXPECT_MC_ERROR(embed(*model, options), ErrorCode::invalid_argument, "33");
}

TEST_F(EmbedTest, TruncationDropsTheEndThatIsNamed) {
  const auto model = load(kGolden / "bert");
  std::string words;
  for (int i = 0; i < 40; ++i) words += "cat ";
  EmbedOptions left;
  left.truncation = Truncation::left;
  EXPECT_EQ(model->embed(words + "dog"), model->embed(words + "river"));
  EXPECT_NE(model->embed(words + "dog", left), model->embed(words + "river", left));
  EXPECT_EQ(model->embed("dog " + words, left), model->embed("river " + words, left));
}

TEST_F(EmbedTest, ProgressIsReportedAndMayEndTheCall) {
  const auto model = load(kGolden / "bert");
  const std::vector<std::string> many(3000, "a cat");
  std::vector<double> shares;
  EmbedOptions options;
  options.progress = [&](double share) { shares.push_back(share); };
  model->embed(std::span<const std::string>(many), options);
  ASSERT_EQ(shares.size(), 3u);
  EXPECT_EQ(shares.back(), 1.0);
  options.progress = [](double) { throw Error(ErrorCode::cancelled, "enough"); };
  EXPECT_MC_ERROR(model->embed(std::span<const std::string>(many), options), ErrorCode::cancelled, "enough");
  EXPECT_EQ(model->embed("a cat").size(), 32u);
}

TEST_F(EmbedTest, ThreadsMayShareAModel) {
  const auto model = load(kGolden / "bert");
  const Embeddings expected = embed(*model);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) EXPECT_EQ(embed(*model).values, expected.values);
    });
  for (std::thread& t : threads) t.join();
}

TEST_F(EmbedTest, OddInputHasAVectorOrAnError) {
  const auto model = load(kGolden / "bert");
  EXPECT_MC_ERROR(model->embed(std::span<const std::string>{}), ErrorCode::invalid_argument, "no texts");
  for (const std::string& text :
       {std::string("\xff\xfe broken"), std::string(1 << 20, 'a'), std::string("\0", 1)})
    for (const float x : model->embed(text)) ASSERT_TRUE(std::isfinite(x));
}

TEST_F(EmbedTest, ErrorsNameTheFileAndTheKey) {
  const fs::path model = copy();
  const auto expect = [&](ErrorCode code, const std::string& text) {
    EXPECT_MC_ERROR(load(model), code, text);
  };
  write(model / "modules.json",
        R"([{"path":"","type":"x.Transformer"},{"path":"../up","type":"x.Pooling"}])");
  expect(ErrorCode::malformed_file, "inside the model's directory");
  write(model / "modules.json", R"([{"path":"","type":"x.Transformer"},{"path":"none","type":"x.Pooling"}])");
  expect(ErrorCode::not_found, "none/config.json");
  write(model / "modules.json", R"([{"path":"","type":"x.Transformer"},{"path":"","type":"x.LSTM"}])");
  expect(ErrorCode::unsupported, "x.LSTM");
  write(model / "modules.json", R"([{"path":"","type":"x.Transformer"}])");
  expect(ErrorCode::malformed_file, "Pooling");
  fs::remove(model / "modules.json");
  EXPECT_EQ(load(model)->dimensions(), 32u);
  Json config = Json::parse(std::ifstream(model / "config.json"));
  config["hidden_size"] = 48;
  write(model / "config.json", config.dump());
  expect(ErrorCode::malformed_file, "embeddings.word_embeddings.weight");
  config["hidden_size"] = 30;
  write(model / "config.json", config.dump());
  expect(ErrorCode::malformed_file, "multiple of 4 heads");
  config["model_type"] = "t5";
  write(model / "config.json", config.dump());
  expect(ErrorCode::unsupported, "known: bert");
}

class RerankGolden : public testing::TestWithParam<const char*> {};

TEST_P(RerankGolden, IsWhatCrossEncoderPredicts) {
  const Json golden = reference(GetParam());
  EmbeddingLoadOptions options;
  options.dtype = EmbeddingDType::f32;
  const auto ranker = Reranker::load(kGolden / GetParam(), options);
  EXPECT_TRUE(ranker->is_cross_encoder());
  const std::vector<std::string> texts = golden["texts"];
  const std::vector<float> expected = golden["scores"];
  const std::vector<float> got = ranker->score(golden["query"].get<std::string>(), texts);
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    EXPECT_NEAR(got[i], expected[i], kTolerance) << '"' << texts[i] << '"';
}

INSTANTIATE_TEST_SUITE_P(Models, RerankGolden,
                         testing::Values("bert-cross", "mpnet-cross", "xlm-roberta-cross",
                                         "modernbert-cross"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(RerankerTest, WithoutAClassifierComparesVectors) {
  const auto ranker = Reranker::load(kGolden / "bert");
  EXPECT_FALSE(ranker->is_cross_encoder());
  const auto model = EmbeddingModel::load(kGolden / "bert");
  EmbedOptions query, passage;
  query.prompt_name = "query";
  passage.prompt_name = "passage";
  const std::vector<std::string> texts{"a cat", "a river bank"};
  const std::vector<float> scores = ranker->score("who is it?", texts);
  for (std::size_t i = 0; i < texts.size(); ++i)
    EXPECT_NEAR(scores[i],
                cosine_similarity(model->embed("who is it?", query), model->embed(texts[i], passage)), 1e-6);
}

TEST(EmbeddingOutput, Int8KeepsTheAngleAndBinaryTheSign) {
  const Embeddings e{
      2, 10, {0.5f, -1, 0.25f, 0, 1e-9f, -1e-9f, 0.125f, 0.1f, -0.1f, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}};
  const std::vector<std::int8_t> codes = to_int8(e);
  EXPECT_EQ(codes[9], 127);
  EXPECT_EQ(codes[1], -64);
  EXPECT_EQ(codes[10], 0);
  const std::vector<std::uint8_t> bits = to_binary(e);
  EXPECT_EQ(bits, (std::vector<std::uint8_t>{0b10101011, 0b01000000, 0, 0}));
}

TEST(EmbeddingModelTypeTest, NamesWhatIsMissing) {
  EXPECT_EQ(repository(EmbeddingModelType::AllMiniLML6V2), "sentence-transformers/all-MiniLM-L6-v2");
  EXPECT_EQ(dimensions(EmbeddingModelType::AllMpnetBaseV2), 768u);
  const test::TempDir empty;
  ::setenv("HF_HUB_CACHE", empty.path().c_str(), 1);
  EXPECT_MC_ERROR(EmbeddingModel::load(EmbeddingModelType::E5SmallV2), ErrorCode::not_found,
                  "intfloat/e5-small-v2");
  ::unsetenv("HF_HUB_CACHE");
}

}  // namespace
}  // namespace metal_candle
