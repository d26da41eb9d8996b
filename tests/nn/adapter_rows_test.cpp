#include "nn/adapter_rows.h"

#include <gtest/gtest.h>

#include <utility>

namespace metal_candle {
namespace {

// Three places: one matrix, none, and two of a stack.
std::shared_ptr<BoundAdapter> bound() {
  auto out = std::make_shared<BoundAdapter>();
  for (const std::size_t segment : {0, 0, 1})
    out->entries.push_back({segment, &out->changed.emplace_front(LoraDelta{})});
  out->first = {0, 1, 1, 3};
  return out;
}

AdapterMix mix(std::vector<std::pair<std::shared_ptr<const BoundAdapter>, float>> uses) {
  AdapterMix out;
  for (auto& [adapter, weight] : uses) out.uses.push_back({std::move(adapter), weight});
  return out;
}

TEST(AdapterRows, NoRowsUseNothing) {
  AdapterRows rows;
  rows.append(5, nullptr);
  EXPECT_TRUE(rows.empty());
  EXPECT_EQ(rows.call(0), nullptr);
  EXPECT_EQ(rows.first(0), nullptr);
}

TEST(AdapterRows, NeighboursWithEqualMixesAreOneRun) {
  const auto a = bound(), b = bound();
  const AdapterMix one = mix({{a, 1.0f}}), same = mix({{a, 1.0f}}), other = mix({{a, 1.0f}, {b, 0.5f}});
  AdapterRows rows;
  rows.append(2, &one);
  rows.append(3, &same);
  rows.append(1, nullptr);
  rows.append(4, &other);
  const auto call = rows.call(0);
  ASSERT_EQ(call->parts.size(), 3u);
  EXPECT_EQ(call->parts[0].first_row, 0u);
  EXPECT_EQ(call->parts[0].rows, 5u);
  EXPECT_EQ(call->parts[1].first_row, 6u);
  EXPECT_EQ(call->parts[2].delta, b->entries[0].delta);
  EXPECT_EQ(call->parts[2].weight, 0.5f);
  EXPECT_EQ(rows.call(1), nullptr);
  EXPECT_EQ(rows.call(2)->parts.size(), 6u);
  EXPECT_EQ(rows.call(2)->parts[1].segment, 1u);
}

TEST(AdapterRows, TheFirstDeltaOfAPlaceIfThereIsOne) {
  const auto a = bound();
  const AdapterMix one = mix({{a, 1.0f}});
  AdapterRows rows;
  rows.append(1, &one);
  EXPECT_EQ(rows.first(0), a->entries[0].delta);
  EXPECT_EQ(rows.first(1), nullptr);
  EXPECT_EQ(rows.first(2), a->entries[1].delta);
  EXPECT_EQ(rows.first(3), nullptr) << "the model has no such place";
}

TEST(AdapterRows, SelectedRowsKeepTheirs) {
  const auto a = bound(), b = bound();
  const AdapterMix one = mix({{a, 1.0f}}), other = mix({{b, 1.0f}});
  AdapterRows rows;
  rows.append(2, &one);
  rows.append(2, nullptr);
  rows.append(2, &other);
  const AdapterRows some = rows.select(std::vector<std::int32_t>{1, 2, 4, 5});
  const auto call = some.call(0);
  ASSERT_EQ(call->parts.size(), 2u);
  EXPECT_EQ(call->parts[0].rows, 1u);
  EXPECT_EQ(call->parts[1].first_row, 2u);
  EXPECT_EQ(call->parts[1].rows, 2u);
  EXPECT_EQ(call->parts[1].delta, b->entries[0].delta);
}

}  // namespace
}  // namespace metal_candle
