// Packing and unpacking of weight tiles: the part of linear.h that runs once, at load.
#include <cstring>

#include "kernels/simd/linear.h"
#include "kernels/simd/linear_layout.h"

namespace metal_candle::simd {
namespace {

static_assert(kTile == static_cast<int>(kTileRows));

using Bytes = std::uint8_t;

void store_u16(Bytes* p, std::uint16_t v) { std::memcpy(p, &v, sizeof v); }
void store_u32(Bytes* p, std::uint32_t v) { std::memcpy(p, &v, sizeof v); }

/// Bit 0 of each byte, gathered to 4 bits.
std::uint32_t gather_bits(std::uint32_t word) { return (word & 0x01010101u) * 0x10204080u >> 28; }
/// The reverse: 4 bits to bit 0 of each byte.
std::uint32_t spread_bits(std::uint32_t bits) { return (bits * 0x00204081u) & 0x01010101u; }

/// Writes the 8 quads of a row's block into the planes of its tile; the planes' bits are still zero.
template <DType type>
void put_codes(const Bytes* codes, int row, Bytes* planes) {
  using L = TileLayout<type>;
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

template <DType type>
void get_codes(const Bytes* planes, int row, Bytes* codes) {
  using L = TileLayout<type>;
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

/// The scale bytes of a sub-block: [32] per group, mins after scales; Q2_K keeps scale and min in one byte.
template <DType type>
void put_scales(const RawScales& raw, int row, Bytes* sub) {
  using L = TileLayout<type>;
  if constexpr (L::kKind == ScaleKind::k_min) {
    sub[row] = raw.s[0];
    sub[kTile + row] = raw.m[0];
  } else if constexpr (L::kGroups == 2) {
    for (int g = 0; g < 2; ++g) sub[kTile * g + row] = static_cast<Bytes>(raw.s[g] | raw.m[g] << 4);
  }
}

template <DType type>
void get_scales(const Bytes* sub, int row, RawScales& raw) {
  using L = TileLayout<type>;
  if constexpr (L::kKind == ScaleKind::k_min) {
    raw.s[0] = sub[row];
    raw.m[0] = sub[kTile + row];
  } else if constexpr (L::kGroups == 2) {
    for (int g = 0; g < 2; ++g) {
      const Bytes byte = sub[kTile * g + row];
      raw.s[g] = L::kHasMin ? byte & 15 : byte;
      raw.m[g] = byte >> 4;
    }
  }
}

template <DType type>
void pack_quantized(std::size_t k, const std::byte* const* rows, std::byte* tile) {
  using L = TileLayout<type>;
  const std::size_t supers = k / L::kSuperInputs;
  const std::size_t file_bytes = block_bytes(type);
  std::memset(tile, 0, supers * L::kSuperBytes);
  for (int row = 0; row < kTile; ++row) {
    if (!rows[row]) continue;
    const Bytes* src = reinterpret_cast<const Bytes*>(rows[row]);
    Bytes* dst = reinterpret_cast<Bytes*>(tile);
    for (std::size_t i = 0; i < supers; ++i, src += file_bytes, dst += L::kSuperBytes) {
      Bytes* sub = dst + L::kHeaderBytes;
      for (int j = 0; j < L::kSubBlocks; ++j, sub += L::kSubBytes) {
        Bytes codes[32];
        RawScales raw;
        read_block<type>(src, j, codes, raw);
        if (j == 0) {
          store_u16(dst + 2 * row, raw.d);
          if constexpr (L::kHasMin) store_u16(dst + 2 * (kTile + row), raw.dmin);
        }
        put_scales<type>(raw, row, sub);
        put_codes<type>(codes, row, sub + L::kSubScaleBytes);
      }
    }
  }
}

template <DType type>
void unpack_quantized(std::size_t k, const std::byte* tile, int row, float* out) {
  using L = TileLayout<type>;
  const Bytes* src = reinterpret_cast<const Bytes*>(tile);
  for (std::size_t i = 0; i < k / L::kSuperInputs; ++i, src += L::kSuperBytes) {
    const Bytes* sub = src + L::kHeaderBytes;
    for (int j = 0; j < L::kSubBlocks; ++j, sub += L::kSubBytes, out += 32) {
      Bytes codes[32];
      RawScales raw;
      raw.d = formats::load_u16(src + 2 * row);
      if constexpr (L::kHasMin) raw.dmin = formats::load_u16(src + 2 * (kTile + row));
      get_scales<type>(sub, row, raw);
      get_codes<type>(sub + L::kSubScaleBytes, row, codes);
      block_values<type>(codes, raw, out);
    }
  }
}

/// Byte offset of input i of a row in a dense tile.
std::size_t dense_offset(DType type, std::size_t i, std::size_t row) {
  if (type == DType::f32) return 128 * i + 4 * row;
  if (type == DType::f16) return 64 * i + 2 * row;
  return 128 * (i / 2) + 4 * row + 2 * (i % 2);
}

}  // namespace

bool linear_supports(DType weight) noexcept {
  return weight == DType::f32 || weight == DType::f16 || weight == DType::bf16 || is_quantized(weight);
}

std::size_t packed_tile_bytes(DType weight, std::size_t k) {
  std::size_t bytes = 0;
  const auto quantized = [&](auto tag) {
    using L = TileLayout<tag.kType>;
    bytes = k / L::kSuperInputs * L::kSuperBytes;
  };
  return visit_quantized(weight, quantized) ? bytes : dense_tile_bytes(weight, k);
}

void pack_tile(DType weight, std::size_t k, const std::byte* const* rows, std::byte* tile) {
  if (visit_quantized(weight, [&](auto tag) { pack_quantized<tag.kType>(k, rows, tile); })) return;
  std::memset(tile, 0, dense_tile_bytes(weight, k));
  const std::size_t size = block_bytes(weight);
  for (std::size_t row = 0; row < kTileRows; ++row) {
    if (!rows[row]) continue;
    for (std::size_t i = 0; i < k; ++i) {
      std::memcpy(tile + dense_offset(weight, i, row), rows[row] + i * size, size);
    }
  }
}

void unpack_row(DType weight, std::size_t k, const std::byte* tile, std::size_t row_in_tile, float* out) {
  const int row = static_cast<int>(row_in_tile);
  if (visit_quantized(weight, [&](auto tag) { unpack_quantized<tag.kType>(k, tile, row, out); })) return;
  for (std::size_t i = 0; i < k; ++i) {
    const std::byte* p = tile + dense_offset(weight, i, row_in_tile);
    if (weight == DType::f32) {
      std::memcpy(out + i, p, sizeof(float));
    } else {
      const std::uint16_t bits = formats::load_u16(reinterpret_cast<const Bytes*>(p));
      out[i] = weight == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
    }
  }
}

}  // namespace metal_candle::simd
