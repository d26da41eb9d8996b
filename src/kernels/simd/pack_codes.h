// Codes of one row to and from the planes of a tile (TileLayout), and what the packing files share. Not for
// kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/simd/linear_layout.h"

namespace metal_candle::simd {

using Bytes = std::uint8_t;

inline void store_u32(Bytes* p, std::uint32_t v) { std::memcpy(p, &v, sizeof v); }

/// Bit 0 of each byte, gathered to 4 bits.
inline std::uint32_t gather_bits(std::uint32_t word) { return (word & 0x01010101u) * 0x10204080u >> 28; }
/// The reverse: 4 bits to bit 0 of each byte.
inline std::uint32_t spread_bits(std::uint32_t bits) { return (bits * 0x00204081u) & 0x01010101u; }

/// Writes the 8 quads of a row's block into the planes of its tile; the planes' bits are still zero.
template <class L>
void put_codes(const Bytes* codes, int row, Bytes* planes) {
  for (int s = 0; s < 8; ++s) {
    const std::uint32_t word = formats::load_u32(codes + 4 * L::quad(s));
    const auto put_or = [&](Bytes* p, std::uint32_t v) { store_u32(p, formats::load_u32(p) | v); };
    if constexpr (L::kBits == 8) {
      store_u32(planes + 128 * s + 4 * row, word);
    } else if constexpr (L::kBits >= 4) {
      put_or(planes + 128 * (s / 2) + 4 * row, (word & 0x0f0f0f0fu) << (4 * (s % 2)));
    } else {
      put_or(planes + 128 * (s / 4) + 4 * row, (word & 0x03030303u) << (2 * (s % 4)));
    }
    if constexpr (L::kBits == 6) {
      put_or(planes + L::kHigh + 128 * (s / 4) + 4 * row, (word >> 4 & 0x03030303u) << (2 * (s % 4)));
    } else if constexpr (L::kBits == 5 || L::kBits == 3) {
      Bytes& byte = planes[L::kHigh + 16 * s + row / 2];
      byte = static_cast<Bytes>(byte | gather_bits(word >> (L::kBits - 1)) << (4 * (row % 2)));
    }
  }
}

template <class L>
void get_codes(const Bytes* planes, int row, Bytes* codes) {
  for (int s = 0; s < 8; ++s) {
    std::uint32_t word;
    if constexpr (L::kBits == 8) {
      word = formats::load_u32(planes + 128 * s + 4 * row);
    } else if constexpr (L::kBits >= 4) {
      word = formats::load_u32(planes + 128 * (s / 2) + 4 * row) >> (4 * (s % 2)) & 0x0f0f0f0fu;
    } else {
      word = formats::load_u32(planes + 128 * (s / 4) + 4 * row) >> (2 * (s % 4)) & 0x03030303u;
    }
    if constexpr (L::kBits == 6) {
      word |= (formats::load_u32(planes + L::kHigh + 128 * (s / 4) + 4 * row) >> (2 * (s % 4)) & 0x03030303u)
              << 4;
    } else if constexpr (L::kBits == 5 || L::kBits == 3) {
      word |= spread_bits(planes[L::kHigh + 16 * s + row / 2] >> (4 * (row % 2)) & 15u) << (L::kBits - 1);
    }
    store_u32(codes + 4 * L::quad(s), word);
  }
}

/// unpack_row() for the affine formats.
void unpack_affine_row(const WeightFormat& weight, std::size_t k, const Bytes* tile, int row, float* out);

}  // namespace metal_candle::simd
