// C = Σ A·B with f32 sums, blocked for the caches, on the compute pool or on the caller's thread: every
// product of training. B is read through a RowSource, so that stored weights become floats only inside the
// cache.
#pragma once

#include <cstddef>
#include <span>

#include "kernels/simd/gemm.h"

namespace metal_candle {

/// Rows of a matrix as floats, whatever they are stored as. Immutable while a product runs; any thread.
class RowSource {
 public:
  virtual ~RowSource() = default;
  /// Columns [column, column + count) of a row: where they lie, or written to `scratch` [count].
  virtual const float* row(std::size_t row, std::size_t column, std::size_t count, float* scratch) const = 0;
};

/// f32 rows in memory, `stride` floats apart.
class FloatRows final : public RowSource {
 public:
  FloatRows(const float* data, std::size_t stride) : data_(data), stride_(stride) {}
  const float* row(std::size_t row, std::size_t column, std::size_t, float*) const override {
    return data_ + row * stride_ + column;
  }

 private:
  const float* data_;
  std::size_t stride_;
};

/// A[row, k] lies at data[row * row_stride + k * k_stride]; one of the strides is 1.
struct GemmRows {
  const float* data;
  std::size_t row_stride, k_stride;
};

class PackedPanels;

/// One A·B, added to columns [begin, end) of C.
struct GemmTerm {
  GemmRows a;          ///< [m, k]
  const RowSource* b;  ///< [k, end - begin], or its transpose [end - begin, k]
  bool b_transposed;
  std::size_t k;
  std::size_t begin, end;
  const PackedPanels* panels = nullptr;  ///< b packed for all of C's columns; used where it serves the kernel
};

struct GemmCall {
  std::size_t m, n;
  std::span<const GemmTerm> terms;  ///< summed in this order, each over k in order: the same bits for any
                                    ///< number of threads
  float* c;                         ///< [m, n], rows c_stride apart; every column in some term
  std::size_t c_stride;
  bool accumulate = false;  ///< add to what C holds
  bool half = false;        ///< 16-bit products (simd/gemm.h: gemm_half())
};

/// Shapes are the caller's to check; C overlaps no operand.
void gemm(const GemmCall& call);         ///< on the compute pool
void gemm_serial(const GemmCall& call);  ///< on this thread

}  // namespace metal_candle
