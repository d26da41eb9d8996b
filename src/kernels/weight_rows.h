// A stack of stored matrices read row by row as floats, in whatever format their file has: what training
// multiplies instead of packed weights, since it needs both W and its transpose. A view of the file's bytes.
#pragma once

#include <functional>
#include <vector>

#include "kernels/gemm.h"
#include "kernels/packed_linear.h"

namespace metal_candle {

/// [sum of n, k]. Immutable; shared by threads. The sources' bytes must outlive it.
class WeightRows final : public RowSource {
 public:
  WeightRows() = default;
  /// `rest` gives back the memory behind the parts until they are read again. Throws Error(invalid_argument)
  /// if k differs or bytes are missing, Error(unsupported) for a type without a float meaning.
  explicit WeightRows(std::vector<MatrixSource> parts, std::function<void()> rest = {});

  /// Says that no row will be read for long.
  void rest() const {
    if (rest_) rest_();
  }

  const float* row(std::size_t row, std::size_t column, std::size_t count, float* scratch) const override;

  std::size_t rows() const noexcept { return begin_.back(); }
  std::size_t columns() const noexcept { return k_; }
  std::size_t parts() const noexcept { return parts_.size(); }
  /// First row of a part; rows() for part parts().
  std::size_t begin(std::size_t part) const noexcept { return begin_[part]; }

 private:
  std::vector<MatrixSource> parts_;
  std::vector<std::size_t> begin_{0};
  std::size_t k_ = 0;
  std::function<void()> rest_;
};

}  // namespace metal_candle
