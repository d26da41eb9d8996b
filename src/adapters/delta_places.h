// Where an adapter's deltas reach into a model. Decoders and encoders number their layers alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "io/weight_names.h"
#include "kernels/lora.h"

namespace metal_candle {

/// Where an adapter reaches a weight: the number of its linear layer (or of the embedding) in the model, and
/// which of the matrices stacked there it is.
struct AdapterPlace {
  std::size_t place;
  std::size_t segment;
};
AdapterPlace adapter_place(WeightId id) noexcept;
inline std::size_t adapter_places(std::size_t layers) noexcept { return 4 * layers + 2; }

/// Deltas by place. A value; views of the deltas.
class DeltaPlaces {
 public:
  struct Delta {
    WeightId id;  ///< of a weight that the model has as such
    const LoraDelta* delta;
  };
  struct Entry {
    std::size_t segment = 0;
    const LoraDelta* delta = nullptr;
  };

  DeltaPlaces() = default;
  explicit DeltaPlaces(std::span<const Delta> deltas);

  /// Empty for any place that no delta reaches.
  std::span<const Entry> at(std::size_t place) const noexcept {
    if (place + 1 >= first_.size()) return {};
    return std::span(entries_).subspan(first_[place], first_[place + 1] - first_[place]);
  }
  std::size_t bytes() const noexcept {
    return entries_.capacity() * sizeof(Entry) + first_.capacity() * sizeof(std::uint32_t);
  }

 private:
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> first_;  // by place, and once more: where its entries begin
};

}  // namespace metal_candle
