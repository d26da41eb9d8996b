// The linear kernels touch nothing past their operands, on every target. Sanitizer builds leave the wide
// targets uninstrumented (cmake/simd_flags.cmake), so each operand ends at a page that faults.
#include <cmath>

#include "kernels/simd/product_rows.h"
#include "kernels/simd_linear_problem.h"
#include "support/guarded.h"

namespace metal_candle::simd {
namespace {

using test::Guarded;

class SimdLinearGuard : public testing::TestWithParam<SimdTarget> {
 protected:
  void SetUp() override { force_target(GetParam()); }
  void TearDown() override { force_target(supported_targets().back()); }
};

/// The product with every operand against its guard equals the one with room to spare.
void expect_stays_inside(const Problem& p, DenseProducts products) {
  const std::size_t stride = activation_row_bytes(p.format, p.k);
  const Guarded x(p.k * sizeof(float)), acts(p.m * stride), tile(p.tile.size());
  const Guarded out(((p.m - 1) * Problem::kOutStride + kTileRows) * sizeof(float));
  std::copy(p.tile.begin(), p.tile.end(), tile.data());
  for (std::size_t r = 0; r < p.m; ++r) {
    std::copy_n(&p.x[r * p.k], p.k, x.as<float>());
    prepare_activations(p.format, x.as<float>(), p.k, acts.data() + r * stride);
  }
  linear_tile(p.format, p.k, tile.data(), acts.data(), stride, p.m, out.as<float>(), Problem::kOutStride,
              products);
  const std::vector<float> expected = p.run(products);
  for (std::size_t r = 0; r < p.m; ++r) {
    for (std::size_t j = 0; j < kTileRows; ++j) {
      const std::size_t at = r * Problem::kOutStride + j;
      ASSERT_EQ(out.as<float>()[at], expected[at]) << label(p.format) << " k " << p.k << " m " << p.m;
    }
  }
}

TEST_P(SimdLinearGuard, Quantized) {
  for (const WeightFormat& format : kQuantizedFormats)
    for (std::size_t blocks : {1, 2, 3})
      for (std::size_t m : {1, 2, 5, 13, 25})
        expect_stays_inside(Problem(format, kTileRows, blocks * linear_k_unit(format), m),
                            DenseProducts::f32);
}

TEST_P(SimdLinearGuard, Dense) {
  for (const WeightFormat& format : kDenseFormats)
    for (std::size_t k : {1, 2, 15, 16, 31, 33})
      for (std::size_t m : {1, 2, 5, 13, 25})
        for (DenseProducts products : {DenseProducts::f32, DenseProducts::bf16})
          expect_stays_inside(Problem(format, kTileRows, k, m), products);
}

TEST_P(SimdLinearGuard, HalfProductsOfRows) {
  for (std::size_t k : {1, 2, 31, 33, 63, 64, 65, 290})
    for (std::size_t m : {1, 2, 5, 8, 13, 25})
      for (std::size_t tiles : {1, 2}) {
        const Problem p(half_weight_type(), kTileRows, k, m);
        Problem second(half_weight_type(), 7, k, m);
        second.x = p.x;
        const std::size_t stride = product_row_bytes(Products::half, k), out_stride = tiles * kTileRows;
        const Guarded x(k * sizeof(float)), rows(m * stride), tile(tiles * p.tile.size());
        const Guarded out(m * out_stride * sizeof(float));
        std::copy(p.tile.begin(), p.tile.end(), tile.data());
        if (tiles == 2) std::copy(second.tile.begin(), second.tile.end(), tile.data() + p.tile.size());
        for (std::size_t r = 0; r < m; ++r) {
          std::copy_n(&p.x[r * k], k, x.as<float>());
          store_product_row(Products::half, x.as<float>(), k, 0, rows.data() + r * stride);
        }
        multiply_rows(Products::half, p.format, k, tile.data(), tiles, rows.data(), m, out.as<float>(),
                      out_stride);
        for (std::size_t t = 0; t < tiles; ++t) {
          const std::vector<float> exact = (t == 0 ? p : second).run(DenseProducts::f32);
          for (std::size_t r = 0; r < m; ++r) {
            float size = 0;  // of the row; weights stay below 0.25, a product is off by at most 2^-8 of it
            for (std::size_t i = 0; i < k; ++i) size += std::abs(p.x[r * k + i]);
            for (std::size_t j = 0; j < kTileRows; ++j)
              ASSERT_NEAR(out.as<float>()[r * out_stride + t * kTileRows + j],
                          exact[r * Problem::kOutStride + j], 0x1p-8f * size * 0.25f)
                  << "k " << k << " m " << m << " tile " << t << " of " << tiles;
          }
        }
      }
}

TEST_P(SimdLinearGuard, TheGuardBites) {
  const Guarded memory(100);
  memory.data()[99] = std::byte{1};
  EXPECT_DEATH(static_cast<volatile std::byte*>(memory.data())[100] = std::byte{1}, "");
}

INSTANTIATE_TEST_SUITE_P(Targets, SimdLinearGuard, testing::ValuesIn(supported_targets()),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace metal_candle::simd
