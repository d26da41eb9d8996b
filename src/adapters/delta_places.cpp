#include "adapters/delta_places.h"

#include <algorithm>
#include <numeric>

namespace metal_candle {

AdapterPlace adapter_place(WeightId id) noexcept {
  // After those of the model, so that no place depends on how many layers there are.
  const std::size_t first = 2 + std::size_t{4} * id.layer;
  switch (id.role) {
    case WeightRole::q: return {first, 0};
    case WeightRole::k: return {first, 1};
    case WeightRole::v: return {first, 2};
    case WeightRole::o: return {first + 1, 0};
    case WeightRole::gate: return {first + 2, 0};
    case WeightRole::up: return {first + 2, 1};
    case WeightRole::down: return {first + 3, 0};
    case WeightRole::embedding: return {0, 0};
    default: return {1, 0};  // the output layer
  }
}

DeltaPlaces::DeltaPlaces(std::span<const Delta> deltas) : entries_(deltas.size()) {
  std::size_t places = 0;
  for (const Delta& d : deltas) places = std::max(places, adapter_place(d.id).place + 1);
  first_.resize(places + 1);
  for (const Delta& d : deltas) ++first_[adapter_place(d.id).place + 1];
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  std::vector<std::uint32_t> next = first_;
  for (const Delta& d : deltas) {
    const AdapterPlace at = adapter_place(d.id);
    entries_[next[at.place]++] = {at.segment, d.delta};
  }
}

}  // namespace metal_candle
