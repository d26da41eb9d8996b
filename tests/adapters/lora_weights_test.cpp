// How modules are stored and grouped. What is read from files: read_adapter_test.
#include "adapters/lora_weights.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace metal_candle {
namespace {

constexpr std::size_t kIn = 8;

// Modules named by role and layer, of `out` outputs and this rank.
struct Modules {
  std::vector<LoraSource> sources;
  void add(WeightRole role, std::uint32_t layer, std::size_t out = 6, std::size_t rank = 2) {
    LoraSource s;
    s.id = {role, layer};
    s.a = tensor(rank, kIn);
    s.b = tensor(out, rank);
    sources.push_back(s);
  }
  const StoredTensor* tensor(std::size_t rows, std::size_t columns) {
    return tensors
        .emplace_back(std::make_unique<StoredTensor>(StoredTensor{
            "t", DType::f32, {rows, columns}, std::as_bytes(std::span(zeros).first(rows * columns))}))
        .get();
  }
  // Where its runs begin, and how long they are.
  std::vector<std::pair<WeightId, std::uint32_t>> runs() const {
    const auto weights = LoraWeights::build(sources, "file");
    std::vector<std::pair<WeightId, std::uint32_t>> out;
    for (const LoraRun& run : weights->runs()) out.emplace_back(run.id, run.layers);
    return out;
  }

 private:
  std::vector<float> zeros = std::vector<float>(1000);
  std::vector<std::unique_ptr<StoredTensor>> tensors;
};

using Runs = std::vector<std::pair<WeightId, std::uint32_t>>;

TEST(LoraWeights, ModulesAlikeInSuccessiveLayersAreOneRun) {
  Modules m;
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    m.add(WeightRole::v, layer, 6, layer + 1);  // the rank is no matter of the model's
    m.add(WeightRole::q, layer);
  }
  m.add(WeightRole::lm_head, 0);
  EXPECT_EQ(m.runs(),
            (Runs{{{WeightRole::lm_head, 0}, 1}, {{WeightRole::q, 0}, 3}, {{WeightRole::v, 0}, 3}}));
}

TEST(LoraWeights, ARunEndsWhereShapesChangeOrMatricesOrALayerAreMissing) {
  Modules m;
  for (const std::uint32_t layer : {0, 1, 2, 4, 5}) m.add(WeightRole::q, layer, layer == 1 ? 5 : 6);
  for (std::uint32_t layer = 0; layer < 5; ++layer) m.add(WeightRole::v, layer);
  m.sources[8].a = m.sources[8].b = nullptr;
  m.sources[8].rows = m.tensor(6, kIn);
  EXPECT_EQ(m.runs(), (Runs{{{WeightRole::q, 0}, 1},
                            {{WeightRole::q, 1}, 1},
                            {{WeightRole::q, 2}, 1},
                            {{WeightRole::q, 4}, 2},
                            {{WeightRole::v, 0}, 3},
                            {{WeightRole::v, 3}, 1},
                            {{WeightRole::v, 4}, 1}}));
}

TEST(LoraWeights, AModuleWithRowsReplacedIsARunOfItsOwn) {
  Modules m;
  for (std::uint32_t layer = 0; layer < 3; ++layer) m.add(WeightRole::q, layer);
  m.sources[1].rows = m.tensor(1, kIn);
  m.sources[1].replaced = {4};
  EXPECT_EQ(m.runs(), (Runs{{{WeightRole::q, 0}, 1}, {{WeightRole::q, 1}, 1}, {{WeightRole::q, 2}, 1}}));
}

TEST(LoraWeights, HasPlacesUnlessTheModelHasASayInThem) {
  Modules m;
  m.add(WeightRole::q, 0);
  const auto has_places = [&] { return LoraWeights::build(m.sources, "file")->places() != nullptr; };
  EXPECT_TRUE(has_places());
  m.sources[0].id.layer = 0xFFFFFFFF;
  EXPECT_FALSE(has_places()) << "the file is not to say how much memory they take";
  m.sources[0].id = {WeightRole::qkv, 0};
  EXPECT_FALSE(has_places());
  m.sources[0].id = {WeightRole::q, 0};
  m.sources[0].magnitude = m.tensor(1, 6);
  EXPECT_FALSE(has_places());
}

}  // namespace
}  // namespace metal_candle
