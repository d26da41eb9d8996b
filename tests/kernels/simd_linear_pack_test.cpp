// Packing: rows come back, tiles stay small, and what a format is.
#include "kernels/simd_linear_problem.h"

namespace metal_candle::simd {
namespace {

std::vector<WeightFormat> all_formats() {
  std::vector<WeightFormat> all = kQuantizedFormats;
  all.insert(all.end(), kDenseFormats.begin(), kDenseFormats.end());
  return all;
}

TEST(SimdLinearPack, RowsComeBackBitForBit) {
  for (const WeightFormat& format : all_formats()) {
    const Problem p(format, 29, linear_k_unit(format) == 1 ? 77 : 512, 1);
    for (std::size_t j = 0; j < kTileRows; ++j) {
      const std::vector<float> want = p.weight_row(j);
      std::vector<float> got(p.k, std::numeric_limits<float>::quiet_NaN());
      unpack_row(format, p.k, p.tile.data(), j, got.data());
      for (std::size_t i = 0; i < p.k; ++i)
        ASSERT_EQ(got[i], want[i]) << label(format) << " row " << j << " input " << i;
    }
  }
}

TEST(SimdLinearPack, TilesStayCloseToTheFilesBits) {
  for (const WeightFormat& format : kQuantizedFormats) {
    const double file =
        format.bits ? 256 * kTileRows *
                          (format.bits / 8.0 + 2.0 * (format.scales == DType::f32 ? 4 : 2) / format.group)
                    : static_cast<double>(*byte_size(format.type, 256 * kTileRows));
    // K formats unpack their 6-bit scales to bytes: 4 bytes of 110 (Q3_K) at most.
    EXPECT_LE(static_cast<double>(packed_tile_bytes(format, 256)), 1.037 * file) << label(format);
  }
}

TEST(SimdLinearPack, SupportedFormats) {
  for (const WeightFormat& format : all_formats()) EXPECT_TRUE(linear_supports(format)) << label(format);
  for (DType type : {DType::i8, DType::u32, DType::f64, DType::boolean}) EXPECT_FALSE(linear_supports(type));
  EXPECT_FALSE(linear_supports(WeightFormat::affine(3, 64, DType::f16)));
  EXPECT_FALSE(linear_supports(WeightFormat::affine(4, 16, DType::f16)));
  EXPECT_FALSE(linear_supports(WeightFormat::affine(4, 64, DType::i32)));
}

TEST(SimdLinearPack, ActivationsAreSharedByQuantizedFormats) {
  EXPECT_TRUE(same_activations(DType::q4_k, DType::q6_k));
  EXPECT_TRUE(same_activations(DType::q8_0, WeightFormat::affine(4, 64, DType::bf16)));
  EXPECT_TRUE(same_activations(DType::f32, DType::bf16));
  EXPECT_FALSE(same_activations(DType::f32, DType::q4_0));
}

}  // namespace
}  // namespace metal_candle::simd
