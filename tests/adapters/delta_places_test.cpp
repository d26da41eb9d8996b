#include "adapters/delta_places.h"

#include <gtest/gtest.h>

#include <set>

namespace metal_candle {
namespace {

constexpr WeightRole kOfLayer[] = {WeightRole::q,    WeightRole::k,  WeightRole::v,   WeightRole::o,
                                   WeightRole::gate, WeightRole::up, WeightRole::down};

TEST(DeltaPlaces, EachWeightHasItsOwnAmongThoseOfTheModel) {
  constexpr std::uint32_t kLayers = 3;
  std::vector<WeightId> ids{{WeightRole::embedding, 0}, {WeightRole::lm_head, 0}};
  for (std::uint32_t layer = 0; layer < kLayers; ++layer)
    for (const WeightRole role : kOfLayer) ids.push_back({role, layer});
  std::set<std::pair<std::size_t, std::size_t>> seen;
  for (const WeightId id : ids) {
    const AdapterPlace at = adapter_place(id);
    EXPECT_LT(at.place, adapter_places(kLayers));
    EXPECT_TRUE(seen.emplace(at.place, at.segment).second);
  }
}

TEST(DeltaPlaces, FindsWhatIsThereInAnyOrderAndNothingElse) {
  const LoraDelta q, v, down, head, more;
  const std::vector<DeltaPlaces::Delta> deltas{{{WeightRole::lm_head, 0}, &head},
                                               {{WeightRole::v, 2}, &v},
                                               {{WeightRole::down, 1}, &down},
                                               {{WeightRole::q, 2}, &q},
                                               {{WeightRole::lm_head, 0}, &more}};
  const DeltaPlaces places(deltas);
  const auto at = [&](WeightRole role, std::uint32_t layer) {
    std::vector<std::pair<std::size_t, const LoraDelta*>> out;
    for (const DeltaPlaces::Entry& e : places.at(adapter_place({role, layer}).place))
      out.emplace_back(e.segment, e.delta);
    return out;
  };
  using Entries = std::vector<std::pair<std::size_t, const LoraDelta*>>;
  EXPECT_EQ(at(WeightRole::q, 2), (Entries{{2, &v}, {0, &q}}));
  EXPECT_EQ(at(WeightRole::down, 1), (Entries{{0, &down}}));
  EXPECT_EQ(at(WeightRole::lm_head, 0), (Entries{{0, &head}, {0, &more}}));
  for (const WeightRole role : kOfLayer) EXPECT_TRUE(at(role, 0).empty());
  EXPECT_TRUE(at(WeightRole::embedding, 0).empty());
  EXPECT_TRUE(at(WeightRole::down, 2).empty());
  EXPECT_TRUE(at(WeightRole::q, 1000).empty());
  EXPECT_TRUE(DeltaPlaces().at(0).empty());
}

}  // namespace
}  // namespace metal_candle
