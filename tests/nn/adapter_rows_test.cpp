#include "nn/adapter_rows.h"

#include <gtest/gtest.h>

#include <utility>

namespace metal_candle {
namespace {

// Of the first layer q and k, not o, and gate.
std::shared_ptr<BoundAdapter> bound() {
  auto out = std::make_shared<BoundAdapter>();
  std::vector<DeltaPlaces::Delta> deltas;
  for (const WeightRole role : {WeightRole::q, WeightRole::k, WeightRole::gate})
    deltas.push_back({{role, 0}, &out->changed.emplace_front(LoraDelta{})});
  out->places = std::make_shared<const DeltaPlaces>(deltas);
  return out;
}

std::size_t place_of(WeightRole role) { return adapter_place({role, 0}).place; }
const std::size_t kQkv = place_of(WeightRole::q), kOutput = place_of(WeightRole::o),
                  kGateUp = place_of(WeightRole::gate), kDown = place_of(WeightRole::down);

const LoraDelta* delta_at(const BoundAdapter& adapter, std::size_t place) {
  return adapter.places->at(place).front().delta;
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
  EXPECT_EQ(rows.call(kQkv), nullptr);
  EXPECT_EQ(rows.first(kQkv), nullptr);
}

TEST(AdapterRows, NeighboursWithEqualMixesAreOneRun) {
  const auto a = bound(), b = bound();
  const AdapterMix one = mix({{a, 1.0f}}), same = mix({{a, 1.0f}}), other = mix({{a, 1.0f}, {b, 0.5f}});
  AdapterRows rows;
  rows.append(2, &one);
  rows.append(3, &same);
  rows.append(1, nullptr);
  rows.append(4, &other);
  const auto call = rows.call(kGateUp);
  ASSERT_EQ(call->parts.size(), 3u);
  EXPECT_EQ(call->parts[0].first_row, 0u);
  EXPECT_EQ(call->parts[0].rows, 5u);
  EXPECT_EQ(call->parts[1].first_row, 6u);
  EXPECT_EQ(call->parts[2].delta, delta_at(*b, kGateUp));
  EXPECT_EQ(call->parts[2].weight, 0.5f);
  EXPECT_EQ(rows.call(kOutput), nullptr);
  EXPECT_EQ(rows.call(kQkv)->parts.size(), 6u);
  EXPECT_EQ(rows.call(kQkv)->parts[1].segment, 1u);
}

TEST(AdapterRows, TheFirstDeltaOfAPlaceIfThereIsOne) {
  const auto a = bound();
  const AdapterMix one = mix({{a, 1.0f}});
  AdapterRows rows;
  rows.append(1, &one);
  EXPECT_EQ(rows.first(kQkv), delta_at(*a, kQkv));
  EXPECT_EQ(rows.first(kOutput), nullptr);
  EXPECT_EQ(rows.first(kGateUp), delta_at(*a, kGateUp));
  EXPECT_EQ(rows.first(kDown), nullptr) << "beyond all deltas";
}

TEST(AdapterRows, SelectedRowsKeepTheirs) {
  const auto a = bound(), b = bound();
  const AdapterMix one = mix({{a, 1.0f}}), other = mix({{b, 1.0f}});
  AdapterRows rows;
  rows.append(2, &one);
  rows.append(2, nullptr);
  rows.append(2, &other);
  const AdapterRows some = rows.select(std::vector<std::int32_t>{1, 2, 4, 5});
  const auto call = some.call(kGateUp);
  ASSERT_EQ(call->parts.size(), 2u);
  EXPECT_EQ(call->parts[0].rows, 1u);
  EXPECT_EQ(call->parts[1].first_row, 2u);
  EXPECT_EQ(call->parts[1].rows, 2u);
  EXPECT_EQ(call->parts[1].delta, delta_at(*b, kGateUp));
}

}  // namespace
}  // namespace metal_candle
