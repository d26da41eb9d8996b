// Operand B of a product packed whole: for a matrix that never changes and is multiplied again and again, the
// panels that kernels/gemm else makes for each call.
#pragma once

#include "kernels/gemm.h"
#include "kernels/scratch.h"

namespace metal_candle {

/// [k, n]: stretch by stretch of k, each with the panels of all columns. Move-only; shared by threads once
/// packed.
class PackedPanels {
 public:
  /// Packs b, [k, n] or its transpose, on the compute pool.
  void pack(const simd::GemmKernel& kernel, const RowSource& b, bool b_transposed, std::size_t k,
            std::size_t n);
  /// Packed, and for this kernel.
  bool serves(const simd::GemmKernel& kernel) const noexcept { return kernel_ == &kernel; }
  /// The panel of a stretch, which begins at row k and is `depth` deep, for columns from `column` on.
  const std::byte* panel(std::size_t k, std::size_t depth, std::size_t column) const noexcept {
    return data_ + offset(k, depth, column);
  }

 private:
  std::size_t offset(std::size_t k, std::size_t depth, std::size_t column) const noexcept {
    return k / step_ * panels_ * kernel_->b_bytes(step_) +
           column / kernel_->columns * kernel_->b_bytes(depth);
  }

  const simd::GemmKernel* kernel_ = nullptr;
  std::size_t step_ = 1, panels_ = 0;  // rows of a stretch, and its panels
  std::byte* data_ = nullptr;
  Scratch memory_;
};

}  // namespace metal_candle
