// A linear layer over plain buffers, walked by a team of threads: what the encoder is made of. No MLX graph:
// one forward pass is one parallel region with barriers between its steps (docs/architecture.md says why).
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "kernels/lora.h"
#include "kernels/packed_linear.h"
#include "kernels/simd/activation.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/product_rows.h"
#include "kernels/team.h"

namespace metal_candle {

using simd::Products;

/// [rows, k] in the form that products of one kind take. A view; the caller owns the memory.
class ProductRows {
 public:
  ProductRows(Products kind, std::size_t k, std::byte* data)
      : kind_(kind), k_(k), stride_(simd::product_row_bytes(kind, k)), data_(data) {}
  /// Writes columns [column, column + n) of a row; see simd::store_product_row.
  void store(std::size_t row, std::size_t column, const float* x, std::size_t n) const {
    simd::store_product_row(kind_, k_, x, n, column, data_ + row * stride_);
  }
  const std::byte* row(std::size_t i) const { return data_ + i * stride_; }

 private:
  Products kind_;
  std::size_t k_, stride_;
  std::byte* data_;
};

/// Columns [column, column + columns) of rows [row, row + rows) of a layer's y. A view, valid during the
/// call.
class DensePiece {
 public:
  std::size_t row, rows, column, columns;
  std::size_t stride;  ///< of values()

  DensePiece(std::size_t row, std::size_t rows, std::size_t column, std::size_t columns, float* products,
             std::size_t stride, const float* bias)
      : row(row), rows(rows), column(column), columns(columns), stride(stride), x_(products), bias_(bias) {}

  /// Writes them to y [., y_stride] of the whole layer, or adds them.
  void store(float* y, std::size_t y_stride) const { put(y, y_stride, false); }
  void add(float* y, std::size_t y_stride) const { put(y, y_stride, true); }
  /// Writes their GELU to y of the whole layer.
  void store_gelu(float* y, std::size_t y_stride) const {
    simd::gelu_rows(x_, stride, bias_, rows, columns, y + row * y_stride + column, y_stride);
  }
  /// value[r * stride + c], for the callee to change; what lies between a row's columns and its stride means
  /// nothing. Call it once: it adds the bias.
  float* values() const {
    if (bias_) simd::add_rows(x_, stride, bias_, 0, rows, columns);
    return x_;
  }
  /// The GELU of values(), likewise.
  float* gelu_values() const {
    simd::gelu_rows(x_, stride, bias_, rows, columns, x_, stride);
    return x_;
  }

 private:
  void put(float* y, std::size_t y_stride, bool accumulate) const {
    simd::store_rows(x_, stride, bias_, rows, columns, y + row * y_stride + column, y_stride, accumulate);
  }
  float* x_;
  const float* bias_;
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

  /// Calls done(const DensePiece&) for every piece of y. Columns are shared out among the team, rows are not.
  template <typename Done>
  void apply(const ProductRows& x, std::size_t rows, const Team& team, const Done& done,
             const DenseLora& lora = {}) const {
    walk(rows, team, [&](const Block& block) { multiply(block, x, lora, done); });
  }

  /// Writes y to `out` [rows, stride] of the whole layer, or adds it; where rows are floats, without a copy.
  void store(const ProductRows& x, std::size_t rows, const Team& team, float* out, std::size_t stride,
             const DenseLora& lora = {}) const {
    put(x, rows, team, out, stride, lora, false);
  }
  void add(const ProductRows& x, std::size_t rows, const Team& team, float* out, std::size_t stride,
           const DenseLora& lora = {}) const {
    put(x, rows, team, out, stride, lora, true);
  }

 private:
  static constexpr std::size_t kRowBlock = 264;  // a whole batch: quantized tiles are widened once for it
  static constexpr std::size_t kTiles = 2;       // multiplied at a time

  /// `tiles` tiles of matrix `w`, the `segment`th, from its tile t, times `rows` rows.
  struct Block {
    const PackedLinear::Segment& w;
    std::size_t segment, t, tiles, row, rows;

    std::size_t first() const { return t * simd::kTileRows; }  // output of the matrix
    std::size_t width() const { return tiles * simd::kTileRows; }
    std::size_t columns() const { return std::min(w.n - first(), width()); }
    std::size_t column() const { return w.out_begin + first(); }
  };

  // The blocks of one member's columns.
  template <typename Each>
  void walk(std::size_t rows, const Team& team, const Each& each) const {
    const auto share = team.share((tiles_ + kTiles - 1) / kTiles);
    std::size_t t = kTiles * share.begin, end = std::min(kTiles * share.end, tiles_), segment = 0;
    for (const PackedLinear::Segment& w : weight_.segments()) {
      for (std::size_t tiles; t < std::min(end, w.tiles); t += tiles) {
        tiles = std::min(kTiles, std::min(end, w.tiles) - t);
        for (std::size_t row = 0; row < rows; row += kRowBlock)
          each(Block{w, segment, t, tiles, row, std::min(rows - row, kRowBlock)});
      }
      if (end <= w.tiles) return;
      t -= w.tiles;
      end -= w.tiles;
      ++segment;
    }
  }

  const float* bias(const Block& block) const { return bias_.empty() ? nullptr : &bias_[block.column()]; }

  template <typename Done>
  void multiply(const Block& b, const ProductRows& x, const DenseLora& lora, const Done& done) const {
    alignas(64) float y[kRowBlock * kTiles * simd::kTileRows];
    const std::size_t columns = b.columns(), stride = b.width();
    simd::multiply_rows(products_, b.w.format, in_features(), b.w.tile(b.t), b.tiles, x.row(b.row), b.rows, y,
                        stride);
    for (std::size_t c = 0; lora.epilogue && c < columns; c += simd::kTileRows)
      lora.epilogue->apply(lora.first_segment + b.segment, b.row, b.rows, b.first() + c,
                           std::min(columns - c, simd::kTileRows), y + c, stride);
    done(DensePiece(b.row, b.rows, b.column(), columns, y, stride, bias(b)));
  }

  void put(const ProductRows& x, std::size_t rows, const Team& team, float* out, std::size_t stride,
           const DenseLora& lora, bool add) const {
    const bool direct = simd::product_rows_are_floats(products_) && lora.epilogue == nullptr;
    walk(rows, team, [&](const Block& b) {
      if (direct && b.columns() == b.width())
        return simd::multiply_rows(products_, b.w.format, in_features(), b.w.tile(b.t), b.tiles, x.row(b.row),
                                   b.rows, out + b.row * stride + b.column(), stride, {bias(b), add});
      multiply(b, x, lora,
               [&](const DensePiece& piece) { add ? piece.add(out, stride) : piece.store(out, stride); });
    });
  }

  Products products_ = Products::f32;
  PackedLinear weight_;
  std::size_t tiles_ = 0;  // of all segments
  std::vector<float> bias_;
};

}  // namespace metal_candle
