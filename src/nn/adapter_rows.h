// Which adapters the rows of a forward pass use. The mixes are the sequences' own and must outlive the pass.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "adapters/bound_adapter.h"
#include "kernels/lora.h"

namespace metal_candle {

/// A value. Empty: no row uses an adapter.
class AdapterRows {
 public:
  /// The next `rows` rows use `mix`; null: none. Neighbours with equal mixes become one run.
  void append(std::size_t rows, const AdapterMix* mix);

  bool empty() const noexcept { return runs_.empty(); }  ///< no row uses an adapter

  /// The same for the rows at these indices, which ascend.
  AdapterRows select(std::span<const std::int32_t> rows) const;

  /// What a place of the model adds, in `out`; false if nothing.
  bool fill(std::size_t place, LoraCall& out) const;
  /// The same; null if nothing.
  std::shared_ptr<const LoraCall> call(std::size_t place) const;
  /// The first delta of it, or null.
  const LoraDelta* first(std::size_t place) const;

 private:
  struct Run {
    std::size_t first_row, rows;
    const AdapterMix* mix;
  };
  std::vector<Run> runs_;  // only rows with a mix
  std::size_t rows_ = 0;
};

}  // namespace metal_candle
