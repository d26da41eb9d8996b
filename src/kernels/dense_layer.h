// A linear layer over plain buffers, walked by a team of threads: what the encoder is made of. No MLX graph:
// one forward pass is one parallel region with barriers between its steps (docs/architecture.md says why).
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/lora.h"
#include "kernels/packed_linear.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/product_rows.h"
#include "kernels/team.h"

namespace metal_candle {

using simd::Products;

/// [rows, k] in the form that products of one kind take. A view; the caller owns the memory.
class ProductRows {
 public:
  ProductRows(Products kind, std::size_t k, std::byte* data)
      : kind_(kind), stride_(simd::product_row_bytes(kind, k)), data_(data) {}
  /// Writes columns [column, column + n) of a row; see simd::store_product_row.
  void store(std::size_t row, std::size_t column, const float* x, std::size_t n) const {
    simd::store_product_row(kind_, x, n, column, data_ + row * stride_);
  }
  const std::byte* row(std::size_t i) const { return data_ + i * stride_; }

 private:
  Products kind_;
  std::size_t stride_;
  std::byte* data_;
};

/// What adapters add to the products of one layer, whose first matrix is their segment `first_segment`.
struct DenseLora {
  const LoraEpilogue* epilogue = nullptr;  ///< null: nothing
  std::size_t first_segment = 0;
};

/// y = x · Wᵀ + bias. Immutable; its weight lives in an arena.
class DenseLayer {
 public:
  /// Matrices [n_i, k] stacked along n, each a segment, stored in any element type; `bias` [Σ n_i] or empty.
  /// Recodes them for `products`: f32 keeps f32, f16 and bf16 as they are. Throws Error(invalid_argument |
  /// unsupported).
  static DenseLayer pack(std::span<const MatrixSource> parts, std::vector<float> bias, Products products,
                         WeightArena& arena);
  /// Arena bytes that pack() will take.
  static std::size_t packed_bytes(std::span<const MatrixSource> parts, Products products);

  std::size_t in_features() const noexcept { return weight_.in_features(); }
  std::size_t out_features() const noexcept { return weight_.out_features(); }
  Products products() const noexcept { return products_; }
  /// Weight row `row` of the stack, as it is multiplied, to f32 [k].
  void read_row(std::size_t row, float* out) const { weight_.unpack_row(row, out); }

  /// Calls done(block, row, rows, column, columns) for every piece of y: block[r * kTileRows + c] belongs to
  /// row row + r and column column + c; done may overwrite it. Columns are shared out among the team, rows
  /// are not.
  template <typename Done>
  void apply(const ProductRows& x, std::size_t rows, const Team& team, const Done& done,
             const DenseLora& lora = {}) const {
    alignas(64) float block[kRowBlock * simd::kTileRows];
    auto [t, end] = team.share(tiles_);
    std::size_t segment = 0;
    for (const PackedLinear::Segment& w : weight_.segments()) {
      for (; t < std::min(end, w.tiles); ++t) {
        const std::size_t first = t * simd::kTileRows, column = w.out_begin + first;
        const std::size_t columns = std::min(w.n - first, simd::kTileRows);
        for (std::size_t row = 0; row < rows; row += kRowBlock) {
          const std::size_t count = std::min(rows - row, kRowBlock);
          simd::multiply_rows(products_, w.format, in_features(), w.tile(t), x.row(row), count, block);
          if (lora.epilogue)
            lora.epilogue->apply(lora.first_segment + segment, row, count, first, columns, block,
                                 simd::kTileRows);
          if (!bias_.empty())
            simd::add_rows(block, simd::kTileRows, bias_.data() + column, 0, count, columns);
          done(block, row, count, column, columns);
        }
      }
      if (end <= w.tiles) return;
      t -= w.tiles;
      end -= w.tiles;
      ++segment;
    }
  }

 private:
  static constexpr std::size_t kRowBlock = 264;  // a whole batch: quantized tiles are widened once for it

  Products products_ = Products::f32;
  PackedLinear weight_;
  std::size_t tiles_ = 0;  // of all segments
  std::vector<float> bias_;
};

}  // namespace metal_candle
