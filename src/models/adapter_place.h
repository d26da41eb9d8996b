// Where an adapter's modules reach into a model. Decoders and encoders number their layers alike.
#pragma once

#include <cstddef>

#include "io/weight_names.h"

namespace metal_candle {

/// Where an adapter reaches a weight: the number of its linear layer (or of the embedding) in the model, and
/// which of the matrices stacked there it is.
struct AdapterPlace {
  std::size_t place;
  std::size_t segment;
};
AdapterPlace adapter_place(WeightId id, std::size_t layers) noexcept;
inline std::size_t adapter_places(std::size_t layers) noexcept { return 4 * layers + 2; }

}  // namespace metal_candle
