// Packing and unpacking of weight tiles: the part of linear.h that runs once, at load.
#include <cstring>

#include "kernels/simd/linear.h"
#include "kernels/simd/pack_codes.h"

namespace metal_candle::simd {
namespace {

static_assert(kTile == static_cast<int>(kTileRows));

void store_u16(Bytes* p, std::uint16_t v) { std::memcpy(p, &v, sizeof v); }

/// The scale bytes of a sub-block: [32] per group, mins after scales; Q2_K keeps scale and min in one byte.
template <DType type>
void put_scales(const RawScales& raw, int row, Bytes* sub) {
  using L = TileLayout<QuantTraits<type>>;
  if constexpr (L::kKind == ScaleKind::k_min) {
    sub[row] = raw.s[0];
    sub[kTile + row] = raw.m[0];
  } else if constexpr (L::kGroups == 2) {
    for (int g = 0; g < 2; ++g) sub[kTile * g + row] = static_cast<Bytes>(raw.s[g] | raw.m[g] << 4);
  }
}

template <DType type>
void get_scales(const Bytes* sub, int row, RawScales& raw) {
  using L = TileLayout<QuantTraits<type>>;
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
  using L = TileLayout<QuantTraits<type>>;
  constexpr int super_bytes = L::super_bytes(type);
  const std::size_t supers = k / block_elements(type);
  const std::size_t file_bytes = block_bytes(type);
  std::memset(tile, 0, supers * super_bytes);
  for (int row = 0; row < kTile; ++row) {
    if (!rows[row]) continue;
    const Bytes* src = reinterpret_cast<const Bytes*>(rows[row]);
    Bytes* dst = reinterpret_cast<Bytes*>(tile);
    for (std::size_t i = 0; i < supers; ++i, src += file_bytes, dst += super_bytes) {
      Bytes* sub = dst + L::kHeaderBytes;
      for (int j = 0; j < L::kSubBlocks; ++j, sub += L::kSubBytes) {
        Bytes codes[32] = {};
        RawScales raw;
        read_block<type>(src, j, codes, raw);
        if (j == 0) {
          store_u16(dst + 2 * row, raw.d);
          if constexpr (L::kHasMin) store_u16(dst + 2 * (kTile + row), raw.dmin);
        }
        put_scales<type>(raw, row, sub);
        put_codes<L>(codes, row, sub + L::kSubScaleBytes);
      }
    }
  }
}

template <DType type>
void unpack_quantized(std::size_t k, const std::byte* tile, int row, float* out) {
  using L = TileLayout<QuantTraits<type>>;
  const Bytes* src = reinterpret_cast<const Bytes*>(tile);
  for (std::size_t i = 0; i < k / block_elements(type); ++i, src += L::super_bytes(type)) {
    const Bytes* sub = src + L::kHeaderBytes;
    for (int j = 0; j < L::kSubBlocks; ++j, sub += L::kSubBytes, out += 32) {
      Bytes codes[32];
      RawScales raw;
      raw.d = formats::load_u16(src + 2 * row);
      if constexpr (L::kHasMin) raw.dmin = formats::load_u16(src + 2 * (kTile + row));
      get_scales<type>(sub, row, raw);
      get_codes<L>(sub + L::kSubScaleBytes, row, codes);
      block_values<type>(codes, raw, out);
    }
  }
}

/// Byte offset of input i of a row in a dense tile.
template <DType type>
std::size_t dense_offset(std::size_t i, std::size_t row) {
  if (type == DType::f32) return 128 * i + 4 * row;
  if (type == DType::f16) return 64 * i + 2 * row;
  return 128 * (i / 2) + 4 * row + 2 * (i % 2);
}

template <DType type>
void pack_dense(std::size_t k, const std::byte* const* rows, std::byte* tile) {
  constexpr std::size_t kSize = type == DType::f32 ? 4 : 2, kBlock = 64;  // that part of the tile stays in L1
  std::memset(tile, 0, dense_tile_bytes(type, k));
  for (std::size_t begin = 0; begin < k; begin += kBlock) {
    const std::size_t end = begin + kBlock < k ? begin + kBlock : k;
    for (std::size_t row = 0; row < kTileRows; ++row) {
      if (!rows[row]) continue;
      for (std::size_t i = begin; i < end; ++i) {
        std::memcpy(tile + dense_offset<type>(i, row), rows[row] + i * kSize, kSize);
      }
    }
  }
}

template <DType type>
void unpack_dense(std::size_t k, const std::byte* tile, std::size_t row, float* out) {
  for (std::size_t i = 0; i < k; ++i) {
    const Bytes* p = reinterpret_cast<const Bytes*>(tile) + dense_offset<type>(i, row);
    if constexpr (type == DType::f32) {
      std::memcpy(out + i, p, sizeof(float));
    } else {
      out[i] = type == DType::f16 ? f16_to_float(formats::load_u16(p)) : bf16_to_float(formats::load_u16(p));
    }
  }
}

}  // namespace

bool linear_supports(const WeightFormat& weight) noexcept {
  if (weight.bits == 0) {
    return weight.type == DType::f32 || weight.type == DType::f16 || weight.type == DType::bf16 ||
           is_quantized(weight.type);
  }
  return weight.type == DType::u32 && (weight.bits == 4 || weight.bits == 8) &&
         (weight.group == 32 || weight.group == 64 || weight.group == 128) &&
         (weight.scales == DType::f32 || weight.scales == DType::f16 || weight.scales == DType::bf16);
}

std::size_t linear_k_unit(const WeightFormat& weight) noexcept {
  return weight.bits ? weight.group : block_elements(weight.type);
}

std::size_t packed_tile_bytes(const WeightFormat& weight, std::size_t k) {
  std::size_t bytes = 0;
  const auto quantized = [&](auto traits) {
    using L = TileLayout<decltype(traits)>;
    bytes = k / linear_k_unit(weight) * L::super_bytes(weight);
  };
  return visit_format(weight, quantized) ? bytes : dense_tile_bytes(weight.type, k);
}

void pack_tile(const WeightFormat& weight, std::size_t k, const std::byte* const* rows, std::byte* tile) {
  const DType type = weight.type;
  if (visit_quantized(type, [&](auto traits) { pack_quantized<traits.kType>(k, rows, tile); })) return;
  switch (type) {
    case DType::f32: return pack_dense<DType::f32>(k, rows, tile);
    case DType::f16: return pack_dense<DType::f16>(k, rows, tile);
    default: return pack_dense<DType::bf16>(k, rows, tile);
  }
}

void unpack_row(const WeightFormat& weight, std::size_t k, const std::byte* tile, std::size_t row_in_tile,
                float* out) {
  const int row = static_cast<int>(row_in_tile);
  if (weight.bits) return unpack_affine_row(weight, k, reinterpret_cast<const Bytes*>(tile), row, out);
  const DType type = weight.type;
  if (visit_quantized(type, [&](auto traits) { unpack_quantized<traits.kType>(k, tile, row, out); })) return;
  switch (type) {
    case DType::f32: return unpack_dense<DType::f32>(k, tile, row_in_tile, out);
    case DType::f16: return unpack_dense<DType::f16>(k, tile, row_in_tile, out);
    default: return unpack_dense<DType::bf16>(k, tile, row_in_tile, out);
  }
}

}  // namespace metal_candle::simd
