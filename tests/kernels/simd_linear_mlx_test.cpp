// The affine formats against MLX itself: what mx::quantize writes, we read as mx::dequantize does.
#include <gtest/gtest.h>
#include <mlx/mlx.h>

#include <array>
#include <vector>

#include "kernels/simd/linear.h"

namespace metal_candle::simd {
namespace {

namespace mx = mlx::core;

TEST(SimdLinearMlx, ReadsWhatMlxQuantizes) {
  constexpr int k = 256;
  const mx::Device cpu(mx::Device::cpu);
  const mx::array w =
      mx::random::normal({static_cast<int>(kTileRows), k}, mx::float32, mx::random::key(7), cpu);
  for (int bits : {4, 8}) {
    for (int group : {32, 64, 128}) {
      const std::vector<mx::array> parts = mx::quantize(w, group, bits, "affine", std::nullopt, cpu);
      mx::array values = mx::dequantize(parts[0], parts[1], parts[2], group, bits, "affine", std::nullopt,
                                        std::nullopt, cpu);
      std::vector<mx::array> all = parts;
      all.push_back(values);
      mx::eval(all);
      const WeightFormat format = WeightFormat::affine(static_cast<std::uint8_t>(bits),
                                                       static_cast<std::uint16_t>(group), DType::f32);
      std::array<AffineRow, kTileRows> rows;
      for (std::size_t j = 0; j < kTileRows; ++j) {
        rows[j] = {reinterpret_cast<const std::byte*>(parts[0].data<std::uint32_t>() + j * k * bits / 32),
                   reinterpret_cast<const std::byte*>(parts[1].data<float>() + j * k / group),
                   reinterpret_cast<const std::byte*>(parts[2].data<float>() + j * k / group)};
      }
      std::vector<std::byte> tile(packed_tile_bytes(format, k));
      pack_affine_tile(format, k, rows.data(), tile.data());
      for (std::size_t j = 0; j < kTileRows; ++j) {
        std::vector<float> got(k);
        unpack_row(format, k, tile.data(), j, got.data());
        // MLX may fuse scale · code + bias: one rounding of a value below 4 apart.
        for (std::size_t i = 0; i < k; ++i) ASSERT_NEAR(got[i], values.data<float>()[j * k + i], 4 * 0x1p-23);
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle::simd
