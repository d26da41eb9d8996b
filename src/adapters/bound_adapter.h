// An adapter fitted to one model, and the weighted mixes of them that requests ask for. Plain data; models/
// does the fitting, nn/ hands the deltas to the layers.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <forward_list>
#include <memory>
#include <span>
#include <vector>

#include "adapters/lora_weights.h"

namespace metal_candle {

/// The deltas of one model by place: a place is a linear layer, whose stacked matrices are its segments, or
/// the embedding. Immutable; needs nothing of the model any more.
struct BoundAdapter {
  std::shared_ptr<const LoraWeights> weights;
  std::forward_list<LoraDelta> changed;        ///< where the model makes a difference
  std::vector<std::vector<float>> gains;       ///< what they view
  std::vector<std::vector<std::byte>> slices;  ///< likewise, where a module is several of the model's
  std::shared_ptr<const DeltaPlaces> places;   ///< of `weights`, or of what is `changed`
};

/// What the rows of one sequence use: the weighted sum of adapters. Immutable; never empty.
struct AdapterMix {
  struct Use {
    std::shared_ptr<const BoundAdapter> adapter;
    float weight = 1;
    auto operator<=>(const Use&) const = default;
  };
  std::vector<Use> uses;
  auto operator<=>(const AdapterMix&) const = default;
};

}  // namespace metal_candle
