#include "kernels/packed_linear.h"

#include <array>

#include "kernels/compute_pool.h"
#include "kernels/simd/linear.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::size_t tile_count(std::size_t n) { return (n + simd::kTileRows - 1) / simd::kTileRows; }

void pack_tiles(const MatrixSource& part, std::byte* out) {
  const std::size_t row_bytes = *byte_size(part.dtype, part.k);
  const std::size_t tile_bytes = simd::packed_tile_bytes(part.dtype, part.k);
  compute_pool().parallel_for(tile_count(part.n), 4, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      std::array<const std::byte*, simd::kTileRows> rows{};
      for (std::size_t i = 0; i < simd::kTileRows; ++i) {
        const std::size_t row = t * simd::kTileRows + i;
        if (row < part.n) rows[i] = part.data.data() + (part.row ? part.row(row) : row) * row_bytes;
      }
      simd::pack_tile(part.dtype, part.k, rows.data(), out + t * tile_bytes);
    }
  });
}

}  // namespace

std::size_t PackedLinear::packed_bytes(std::span<const MatrixSource> parts) {
  std::size_t bytes = 0;
  for (const MatrixSource& part : parts)
    bytes += WeightArena::rounded(tile_count(part.n) * simd::packed_tile_bytes(part.dtype, part.k));
  return bytes;
}

PackedLinear PackedLinear::pack(std::span<const MatrixSource> parts, WeightArena& arena) {
  PackedLinear out;
  out.k_ = parts.front().k;
  for (const MatrixSource& part : parts) {
    if (part.k != out.k_ || byte_size(part.dtype, part.n * part.k) != part.data.size())
      throw Error(ErrorCode::invalid_argument, "[pack] stacked matrices must share k and hold n * k values");
    Segment segment{
        part.dtype, part.n, out.n_, tile_count(part.n), simd::packed_tile_bytes(part.dtype, part.k), nullptr};
    std::byte* data = arena.allocate(segment.tiles * segment.tile_bytes);
    segment.data = data;
    pack_tiles(part, data);
    out.n_ += part.n;
    out.segments_.push_back(segment);
  }
  return out;
}

std::size_t PackedLinear::bytes() const noexcept {
  std::size_t sum = 0;
  for (const Segment& s : segments_) sum += s.tiles * s.tile_bytes;
  return sum;
}

void PackedLinear::unpack_row(std::size_t row, float* out) const {
  for (const Segment& s : segments_) {
    if (row < s.n)
      return simd::unpack_row(s.dtype, k_, s.tile(row / simd::kTileRows), row % simd::kTileRows, out);
    row -= s.n;
  }
}

}  // namespace metal_candle
