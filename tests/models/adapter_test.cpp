// Adapters on the tiny golden models against PEFT's own logits (scripts/golden/adapters.py), alone, mixed,
// and beside other rows of a batch.
#include <gtest/gtest.h>

#include <map>

#include "adapters/adapter_impl.h"
#include "adapters/formats.h"
#include "models/adapter_binding.h"
#include "models/golden_model.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

using test::GoldenModel;
using test::Row;

const std::string kGolden = std::string(MC_GOLDEN_DIR) + "/adapters/";

// f32 against f32 in another order of sums: logits are of order 5, f32 itself is off by up to 1e-5 from f64,
// and the models' layers amplify the adapter's share of it.
constexpr double kTolerance = 1e-4;

Json golden_json(const std::string& path) {
  std::ifstream in(kGolden + path);
  std::stringstream text;
  text << in.rdbuf();
  return parse_json(text.str(), path);
}

std::string path_of(const std::string& name) {
  return kGolden + name + (name.ends_with("-gguf") ? "/adapter.gguf" : "");
}

std::shared_ptr<const BoundAdapter> load(const GoldenModel& model, const std::string& name) {
  return bind_adapter(*model.decoder, read_adapter(path_of(name)), name);
}

std::vector<Row> logits(const GoldenModel& model, const AdapterMix& mix, std::size_t chunk = 1000) {
  KvCache cache = model.cache();
  std::vector<Row> out;
  const std::vector<std::int32_t> tokens = model.prompt();
  const std::size_t vocab = model.decoder->spec().vocab;
  for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const std::size_t rows = std::min(chunk, tokens.size() - begin);
    std::vector<std::int32_t> all(rows);
    std::iota(all.begin(), all.end(), 0);
    const SequenceRows sequence{&cache, rows, 0, mix.uses.empty() ? nullptr : &mix};
    const auto result = model.decoder->forward(std::span(tokens).subspan(begin, rows), {&sequence, 1}, all);
    for (std::size_t i = 0; i < rows; ++i)
      out.emplace_back(result.data<float>() + i * vocab, result.data<float>() + (i + 1) * vocab);
  }
  return out;
}

double error_of(const std::vector<Row>& got, const Json& reference, const char* key = "logits") {
  double most = 0;
  for (std::size_t i = 0; i < reference["positions"].size(); ++i)
    most = std::max(most, test::largest_difference(reference[key][i].get<Row>(),
                                                   got[reference["positions"][i].get<std::size_t>()]));
  return most;
}

class AdapterTest : public testing::TestWithParam<const char*> {
 protected:
  const std::string name = GetParam();
  const Json reference = golden_json(name + "/reference.json");
  const std::string base = reference["base"];
};

TEST_P(AdapterTest, LogitsArePefts) {
  for (const char* file : {"dir", "gguf"}) {
    SCOPED_TRACE(file);
    const GoldenModel model = GoldenModel::load(base, file);
    const AdapterMix mix{{{load(model, name), 1.0f}}};
    ASSERT_GT(reference["base_difference"].get<double>(), 0.5);
    EXPECT_LT(error_of(logits(model, mix), reference), kTolerance);
    EXPECT_LT(error_of(logits(model, mix, 7), reference), kTolerance) << "in chunks";
    EXPECT_LT(error_of(logits(model, mix, 1), reference), kTolerance) << "one row at a time";
  }
}

TEST_P(AdapterTest, TheScaleOfTheRequestIsAFactor) {
  if (!reference.contains("half")) return;  // PEFT cannot scale these
  const GoldenModel model = GoldenModel::load(base, "dir");
  const AdapterMix mix{{{load(model, name), 0.5f}}};
  EXPECT_LT(error_of(logits(model, mix), reference, "half"), kTolerance);
}

TEST_P(AdapterTest, NothingIsLeftBehind) {
  const GoldenModel model = GoldenModel::load(base, "dir");
  const std::vector<Row> before = model.logits();
  logits(model, {{{load(model, name), 1.0f}}});
  EXPECT_EQ(model.logits(), before);
}

INSTANTIATE_TEST_SUITE_P(All, AdapterTest,
                         testing::Values("lora", "rslora", "patterns", "layers", "bias", "dora", "head",
                                         "saved", "tokens", "lora-mlx", "dora-mlx", "lora-gguf"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST(AdapterMixTest, IsTheWeightedSumAsInPeft) {
  const Json reference = golden_json("mix.json");
  const GoldenModel model = GoldenModel::load(reference["base"], "dir");
  AdapterMix mix;
  for (std::size_t i = 0; i < 2; ++i)
    mix.uses.push_back({load(model, reference["adapters"][i]), reference["weights"][i].get<float>()});
  EXPECT_LT(error_of(logits(model, mix), reference), kTolerance);
}

TEST(AdapterMixTest, AnAdapterMadeOfTwoIsPefts) {
  const Json reference = golden_json("mixes.json");
  const GoldenModel model = GoldenModel::load(reference["base"], "dir");
  const std::map<std::string, MixMethod> methods{{"cat", MixMethod::cat},
                                                 {"linear", MixMethod::linear},
                                                 {"svd", MixMethod::svd},
                                                 {"ties", MixMethod::ties}};
  ASSERT_EQ(reference["methods"].size(), methods.size());
  for (const auto& [name, method] : methods) {
    SCOPED_TRACE(name);
    const Json& golden = reference["methods"][name];
    std::vector<AdapterUse> uses;
    for (std::size_t i = 0; i < 2; ++i)
      uses.push_back({Adapter::load(path_of(reference["adapters"][i])), golden["weights"][i].get<float>()});
    MixOptions options{method};
    if (golden.contains("svd_rank")) options.rank = golden["svd_rank"];
    if (golden.contains("density")) options.density = golden["density"];
    const auto mixed = mix_adapters(uses, options);
    const AdapterMix mix{{{bind_adapter(*model.decoder, mixed->impl().file, name), 1.0f}}};
    Json positions = golden;
    positions["positions"] = reference["positions"];
    EXPECT_LT(error_of(logits(model, mix), positions), kTolerance);
  }
}

TEST(AdapterBatchTest, RowsOfABatchKeepTheirOwnAdapters) {
  const GoldenModel model = GoldenModel::load("llama3.2", "dir");
  const auto lora = load(model, "lora"), rslora = load(model, "rslora"),
             tokens_adapter = load(model, "tokens");
  const std::vector<AdapterMix> mixes{{{{lora, 1}}},           {},
                                      {{{rslora, 1}}},         {{{lora, 0.5f}, {rslora, 2}}},
                                      {{{tokens_adapter, 1}}}, {{{lora, 1}}}};
  const std::vector<std::int32_t> prompt = model.prompt();
  std::vector<KvCache> caches;
  std::vector<std::int32_t> tokens, last;
  for (std::size_t i = 0; i < mixes.size(); ++i) {
    caches.push_back(model.cache());
    tokens.insert(tokens.end(), prompt.begin(), prompt.end());
    last.push_back(static_cast<std::int32_t>(tokens.size()) - 1);
  }
  std::vector<SequenceRows> rows;
  for (std::size_t i = 0; i < mixes.size(); ++i)
    rows.push_back({&caches[i], prompt.size(), 0, mixes[i].uses.empty() ? nullptr : &mixes[i]});
  const auto together = model.decoder->forward(tokens, rows, last);
  const std::size_t vocab = model.decoder->spec().vocab;
  for (std::size_t i = 0; i < mixes.size(); ++i) {
    SCOPED_TRACE(i);
    const Row alone = logits(model, mixes[i]).back();
    const float* row = together.data<float>() + i * vocab;
    EXPECT_LT(test::largest_difference({row, row + vocab}, alone), kTolerance);
  }
}

}  // namespace
}  // namespace metal_candle
