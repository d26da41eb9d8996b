// What an adapter became for each model that uses it.
#include <gtest/gtest.h>

#include "adapters/adapter_impl.h"

namespace metal_candle {
namespace {

TEST(BoundAdapterTest, IsMadeOnceForAModelAndGoesWithIt) {
  const auto adapter = Adapter::load(std::string(MC_GOLDEN_DIR) + "/adapters/lora");
  int made = 0;
  const auto bound = [&](const std::shared_ptr<const void>& model) {
    return adapter->impl().bound(model, [&] {
      ++made;
      return std::make_shared<const BoundAdapter>();
    });
  };
  auto first = std::make_shared<char>();
  const auto second = std::make_shared<char>();
  std::weak_ptr<const BoundAdapter> of_first = bound(first);
  EXPECT_EQ(bound(first), of_first.lock());
  const auto of_second = bound(second);
  EXPECT_NE(of_second, of_first.lock());
  EXPECT_EQ(made, 2);
  first.reset();
  EXPECT_EQ(bound(second), of_second);
  bound(std::make_shared<char>());
  EXPECT_TRUE(of_first.expired());
  EXPECT_EQ(bound(second), of_second);
  EXPECT_EQ(made, 3);
}

}  // namespace
}  // namespace metal_candle
