#include "kernels/packed_linear.h"

#include <array>
#include <optional>

#include "kernels/compute_pool.h"
#include "kernels/simd/linear.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::size_t tile_count(std::size_t n) { return (n + simd::kTileRows - 1) / simd::kTileRows; }

// Bytes of one stored row, of its codes if affine.
std::optional<std::uint64_t> row_bytes(const MatrixSource& part) {
  if (part.format.bits == 0) return byte_size(part.format.type, part.k);
  return part.k * part.format.bits / 8;
}

bool fits(const MatrixSource& part) {
  const auto bytes = row_bytes(part);
  if (part.k % simd::linear_k_unit(part.format) != 0 || !bytes || part.data.size() != part.n * *bytes)
    return false;
  if (part.format.bits == 0) return true;
  const std::size_t scales = part.n * (part.k / part.format.group) * block_bytes(part.format.scales);
  return part.scales.size() == scales && part.biases.size() == scales;
}

void pack_tiles(const MatrixSource& part, std::byte* out) {
  const std::size_t bytes = *row_bytes(part);
  const std::size_t scale_bytes = part.scales.size() / part.n;
  const std::size_t tile_bytes = simd::packed_tile_bytes(part.format, part.k);
  compute_pool().parallel_for(tile_count(part.n), 4, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      std::array<const std::byte*, simd::kTileRows> plain{};
      std::array<simd::AffineRow, simd::kTileRows> affine{};
      for (std::size_t i = 0; i < simd::kTileRows && t * simd::kTileRows + i < part.n; ++i) {
        const std::size_t wanted = t * simd::kTileRows + i;
        const std::size_t row = part.row ? part.row(wanted) : wanted;
        plain[i] = part.data.data() + row * bytes;
        affine[i] = {plain[i], part.scales.data() + row * scale_bytes,
                     part.biases.data() + row * scale_bytes};
      }
      std::byte* tile = out + t * tile_bytes;
      if (part.format.bits == 0)
        simd::pack_tile(part.format, part.k, plain.data(), tile);
      else
        simd::pack_affine_tile(part.format, part.k, affine.data(), tile);
    }
  });
}

}  // namespace

std::size_t PackedLinear::packed_bytes(std::span<const MatrixSource> parts) {
  std::size_t bytes = 0;
  for (const MatrixSource& part : parts)
    bytes += WeightArena::rounded(tile_count(part.n) * simd::packed_tile_bytes(part.format, part.k));
  return bytes;
}

PackedLinear PackedLinear::pack(std::span<const MatrixSource> parts, WeightArena& arena) {
  PackedLinear out;
  out.k_ = parts.front().k;
  for (const MatrixSource& part : parts) {
    if (part.k != out.k_ || !fits(part))
      throw Error(ErrorCode::invalid_argument, "[pack] stacked matrices must share k and hold n * k values");
    Segment segment{
        part.format, part.n, out.n_, tile_count(part.n), simd::packed_tile_bytes(part.format, part.k),
        nullptr};
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
      return simd::unpack_row(s.format, k_, s.tile(row / simd::kTileRows), row % simd::kTileRows, out);
    row -= s.n;
  }
}

}  // namespace metal_candle
