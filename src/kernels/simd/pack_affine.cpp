// Packing of MLX's affine formats: codes in their order from the low bits up, scales and biases beside them.
#include "kernels/simd/linear.h"
#include "kernels/simd/pack_codes.h"

namespace metal_candle::simd {
namespace {

/// 32 codes from `block`, which holds bits · 4 bytes.
template <int bits>
void read_codes(const Bytes* block, Bytes* codes) {
  if constexpr (bits == 8) {
    std::memcpy(codes, block, 32);
  } else {
    for (int i = 0; i < 32; i += 4) {  // a nibble to each byte
      std::uint32_t word = formats::load_u16(block + i / 2);
      word = (word | word << 8) & 0x00ff00ffu;
      store_u32(codes + i, (word | word << 4) & 0x0f0f0f0fu);
    }
  }
}

template <DType type>
float read_scale(const Bytes* p) {
  if constexpr (type == DType::f32) {
    return __builtin_bit_cast(float, formats::load_u32(p));
  } else {
    return type == DType::f16 ? f16_to_float(formats::load_u16(p)) : bf16_to_float(formats::load_u16(p));
  }
}

template <class Traits>
void pack_row(const WeightFormat& weight, std::size_t k, const AffineRow& from, int row, Bytes* dst) {
  using L = TileLayout<Traits>;
  constexpr int size = Traits::kScaleBytes;
  const Bytes* codes = reinterpret_cast<const Bytes*>(from.codes);
  for (std::size_t group = 0; group < k / weight.group; ++group) {
    std::memcpy(dst + size * row, from.scales + group * size, size);
    std::memcpy(dst + size * (kTile + row), from.biases + group * size, size);
    dst += L::kHeaderBytes;
    for (int j = 0; j < weight.group / 32; ++j, dst += L::kSubBytes, codes += 4 * Traits::kBits) {
      Bytes block[32];
      read_codes<Traits::kBits>(codes, block);
      put_codes<L>(block, row, dst);
    }
  }
}

template <class Traits>
void unpack(const WeightFormat& weight, std::size_t k, const Bytes* tile, int row, float* out) {
  using L = TileLayout<Traits>;
  constexpr int size = Traits::kScaleBytes;
  for (std::size_t group = 0; group < k / weight.group; ++group) {
    const float scale = read_scale<Traits::kScales>(tile + size * row);
    const float bias = read_scale<Traits::kScales>(tile + size * (kTile + row));
    tile += L::kHeaderBytes;
    for (int j = 0; j < weight.group / 32; ++j, tile += L::kSubBytes, out += 32) {
      Bytes codes[32];
      get_codes<L>(tile, row, codes);
      for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(codes[i]) + bias;
    }
  }
}

/// Calls f(traits) if they are affine ones: the quantized ones of GGUF have their own packing.
template <class F>
auto affine_only(F f) {
  return [f](auto traits) {
    if constexpr (decltype(traits)::kKind == ScaleKind::affine) f(traits);
  };
}

}  // namespace

void pack_affine_tile(const WeightFormat& weight, std::size_t k, const AffineRow* rows, std::byte* tile) {
  std::memset(tile, 0, packed_tile_bytes(weight, k));
  for (int row = 0; row < kTile; ++row) {
    if (!rows[row].codes) continue;
    visit_format(weight, affine_only([&](auto traits) {
                   pack_row<decltype(traits)>(weight, k, rows[row], row, reinterpret_cast<Bytes*>(tile));
                 }));
  }
}

void unpack_affine_row(const WeightFormat& weight, std::size_t k, const Bytes* tile, int row, float* out) {
  visit_format(weight,
               affine_only([&](auto traits) { unpack<decltype(traits)>(weight, k, tile, row, out); }));
}

}  // namespace metal_candle::simd
