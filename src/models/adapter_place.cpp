#include "models/adapter_place.h"

namespace metal_candle {

AdapterPlace adapter_place(WeightId id, std::size_t layers) noexcept {
  const std::size_t first = std::size_t{4} * id.layer;
  switch (id.role) {
    case WeightRole::q: return {first, 0};
    case WeightRole::k: return {first, 1};
    case WeightRole::v: return {first, 2};
    case WeightRole::o: return {first + 1, 0};
    case WeightRole::gate: return {first + 2, 0};
    case WeightRole::up: return {first + 2, 1};
    case WeightRole::down: return {first + 3, 0};
    case WeightRole::embedding: return {4 * layers, 0};
    default: return {4 * layers + 1, 0};  // the output layer
  }
}

}  // namespace metal_candle
