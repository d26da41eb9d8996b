#include "io/module_names.h"

#include <gtest/gtest.h>

namespace metal_candle {
namespace {

std::vector<ModuleNames> fitting(std::vector<std::string_view> modules) {
  return ModuleNames::that_fit(modules);
}

TEST(ModuleNames, ADecodersAreCalledAsHuggingFaceCallsThem) {
  const ModuleNames names;
  EXPECT_EQ(names.name({WeightRole::q, 3}), "model.layers.3.self_attn.q_proj");
  EXPECT_EQ(names.name({WeightRole::qkv, 3}), "");
  EXPECT_EQ(names.parse("model.layers.3.mlp.down_proj"), (WeightId{WeightRole::down, 3}));
  EXPECT_EQ(names.parse("model.layers.3."), std::nullopt);
  EXPECT_EQ(fitting({"model.layers.0.self_attn.q_proj"}), std::vector{names});
}

TEST(ModuleNames, AnEncodersFollowItsArchitectureAndPrefix) {
  const auto one = [](std::string_view module) {
    const std::vector<ModuleNames> all = fitting({module});
    EXPECT_EQ(all.size(), 1u) << module;
    return all.at(0);
  };
  const ModuleNames bert = one("bert.encoder.layer.11.attention.self.query");
  EXPECT_EQ(bert, ModuleNames(kBertNames, "bert."));
  EXPECT_EQ(bert.parse("bert.encoder.layer.11.attention.self.query"), (WeightId{WeightRole::q, 11}));
  EXPECT_EQ(bert.parse("encoder.layer.11.attention.self.query"), std::nullopt);
  EXPECT_EQ(bert.parse("bert.encoder.layer.011.attention.self.query"), std::nullopt);
  EXPECT_EQ(bert.parse("bert.encoder.layer.1.attention.self.queries"), std::nullopt);
  EXPECT_EQ(bert.name({WeightRole::pooler, 7}), "bert.pooler.dense");
  EXPECT_EQ(bert.name({WeightRole::gate, 0}), "");
  EXPECT_EQ(one("layers.2.mlp.Wi").parse("layers.2.mlp.Wi"), (WeightId{WeightRole::gate_up, 2}));
  EXPECT_EQ(one("encoder.layers.2.mlp.fc12").parse("encoder.layers.2.mlp.fc12"),
            (WeightId{WeightRole::gate, 2}));
  EXPECT_EQ(one("layers.2.mlp.gate_proj").parse("layers.2.mlp.gate_proj"), (WeightId{WeightRole::gate, 2}));
}

TEST(ModuleNames, NamesThatSeveralArchitecturesShareFitAllOfThem) {
  EXPECT_EQ(fitting({"encoder.layer.0.intermediate.dense"}).size(), 2u);
  EXPECT_EQ(fitting({"encoder.layer.0.intermediate.dense", "encoder.layer.0.attention.attn.q"}),
            std::vector{ModuleNames(kMpnetNames, "")});
  EXPECT_TRUE(fitting({"encoder.layer.0.attention.self.query", "encoder.layer.0.attention.attn.q"}).empty());
  EXPECT_TRUE(fitting({"classifier"}).empty());
}

}  // namespace
}  // namespace metal_candle
