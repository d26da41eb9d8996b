// Exact arithmetic on the products B·A of LoRA without ever forming them: sums, norms, the best approximation
// of a lower rank. In double precision; for tools, not for inference.
#pragma once

#include <cstddef>
#include <vector>

#include "adapters/lora_weights.h"

namespace metal_candle {

/// A module's A and B as numbers: a [rank, in], b [rank, out] (B transposed), without its scale.
struct LoraFactors {
  std::size_t rank = 0, in = 0, out = 0;
  std::vector<float> a, b;
  /// Throws Error(unsupported) naming the module for anything but plain LoRA.
  static LoraFactors of(const LoraModule& module, const ModuleNames& names = {});
};

/// A sum of products Bᵢ·Aᵢ, kept as the rows of p [rank, out] and q [rank, in].
class LowRank {
 public:
  void add(const LoraFactors& factors, double weight);
  std::size_t rank() const noexcept { return rank_; }
  /// Frobenius norm.
  double norm() const;
  /// The nearest matrix of at most this rank (Eckart-Young), split as PEFT splits it: B = U·S, A = Vᵀ.
  LoraFactors nearest(std::size_t rank) const;

 private:
  std::size_t rank_ = 0, out_ = 0, in_ = 0;
  std::vector<double> p_, q_;
};

}  // namespace metal_candle
