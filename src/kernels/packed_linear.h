// The weight of one linear layer, repacked for the CPU kernels: [n, k], possibly several matrices stacked
// along n (q, k and v; gate and up). Bytes only; what is computed with it is linear.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/simd/weight_format.h"
#include "kernels/weight_arena.h"

namespace metal_candle {

/// A stored matrix [n, k] in its file's own format.
struct MatrixSource {
  simd::WeightFormat format = DType::f32;
  std::size_t n = 0;                          ///< output features (rows)
  std::size_t k = 0;                          ///< input features
  std::span<const std::byte> data;            ///< rows, or the codes of affine rows
  std::span<const std::byte> scales, biases;  ///< affine formats only: [n, k / group]
  /// Stored row that output row i comes from; empty: i itself. (Undoes GGUF's permutation of q and k.)
  std::function<std::size_t(std::size_t)> row;
};

/// Immutable after pack(); shared by threads. Its bytes live in the arena.
class PackedLinear {
 public:
  /// One stored matrix as tiles of simd::kTileRows output rows.
  struct Segment {
    simd::WeightFormat format;
    std::size_t n;          ///< output features
    std::size_t out_begin;  ///< first output feature in the stack
    std::size_t tiles;
    std::size_t tile_bytes;
    const std::byte* data;
    const std::byte* tile(std::size_t i) const noexcept { return data + i * tile_bytes; }
  };

  /// Arena bytes that pack() will take.
  static std::size_t packed_bytes(std::span<const MatrixSource> parts);

  /// Repacks `parts` (same k) on the compute pool. Throws Error(invalid_argument) if k differs.
  static PackedLinear pack(std::span<const MatrixSource> parts, WeightArena& arena);

  std::size_t out_features() const noexcept { return n_; }
  std::size_t in_features() const noexcept { return k_; }
  std::size_t bytes() const noexcept;
  std::span<const Segment> segments() const noexcept { return segments_; }

  /// Weight row `row` (an embedding, where the table is shared) as f32 [k].
  void unpack_row(std::size_t row, float* out) const;

 private:
  std::size_t n_ = 0;
  std::size_t k_ = 0;
  std::vector<Segment> segments_;
};

}  // namespace metal_candle
