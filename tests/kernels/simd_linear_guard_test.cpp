// The linear kernels touch nothing past their operands, on every target. Sanitizer builds leave the wide
// targets uninstrumented (cmake/simd_flags.cmake), so each operand ends at a page that faults.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

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
        for (DenseProducts products : {DenseProducts::f32, DenseProducts::half})
          expect_stays_inside(Problem(format, kTileRows, k, m), products);
}

/// One tile, or two of which the second has fewer rows; each operand against its guard. The references
/// multiply in f32 or as linear_tile does. Errors of products are independent and add up like |x|: a sum may
/// be off by `tolerance` of |x| times the largest weight.
void expect_product_of_rows(Products kind, const std::function<Problem(std::size_t n)>& problem,
                            std::size_t tiles, float tolerance) {
  const Problem p = problem(kTileRows);
  Problem second = problem(7);
  second.x = p.x;
  const std::size_t stride = product_row_bytes(kind, p.k), out_stride = tiles * kTileRows;
  const Guarded x(p.k * sizeof(float)), rows(p.m * stride), tile(tiles * p.tile.size());
  const Guarded out(p.m * out_stride * sizeof(float));
  std::copy(p.tile.begin(), p.tile.end(), tile.data());
  if (tiles == 2) std::copy(second.tile.begin(), second.tile.end(), tile.data() + p.tile.size());
  for (std::size_t r = 0; r < p.m; ++r) {
    std::copy_n(&p.x[r * p.k], p.k, x.as<float>());
    store_product_row(kind, p.k, x.as<float>(), p.k, 0, rows.data() + r * stride);
  }
  multiply_rows(kind, p.format, p.k, tile.data(), tiles, rows.data(), p.m, out.as<float>(), out_stride);
  for (std::size_t t = 0; t < tiles; ++t) {
    const Problem& reference = t == 0 ? p : second;
    float largest = 0;
    for (std::size_t j = 0; j < reference.n; ++j)
      for (float w : reference.weight_row(j)) largest = std::max(largest, std::abs(w));
    const std::vector<float> exact = reference.run(DenseProducts::f32);
    for (std::size_t r = 0; r < p.m; ++r) {
      float size = 0;
      for (std::size_t i = 0; i < p.k; ++i) size += p.x[r * p.k + i] * p.x[r * p.k + i];
      for (std::size_t j = 0; j < kTileRows; ++j)
        ASSERT_NEAR(out.as<float>()[r * out_stride + t * kTileRows + j], exact[r * Problem::kOutStride + j],
                    tolerance * std::sqrt(size) * largest)
            << label(p.format) << " k " << p.k << " m " << p.m << " tile " << t << " of " << tiles;
    }
  }
}

TEST_P(SimdLinearGuard, HalfProductsOfRows) {
  for (std::size_t k : {1, 2, 31, 32, 33, 64, 127, 128, 129, 290})
    for (std::size_t m : {1, 2, 5, 8, 13, 25})
      for (std::size_t tiles : {1, 2})
        expect_product_of_rows(
            Products::half, [&](std::size_t n) { return Problem(half_weight_type(), n, k, m); }, tiles,
            0x1p-8f);  // operands rounded to bf16, by 2^-9
}

TEST_P(SimdLinearGuard, Int8ProductsOfRows) {
  const auto problem = [](std::size_t n, std::size_t k, std::size_t m) {
    Problem p(int8_weight_format(k), n, k, m);
    const std::size_t group = p.format.group;
    for (WeightRow& row : p.weights)  // scales of few bits, biases as codes from 1 to 255 mean them
      for (std::size_t i = 0; i < k; ++i) {
        const float scale = 0.01f * 0x1p-7f * static_cast<float>(1 + (i / group + k) % 3 * 50);
        const float rounded = static_cast<float>(static_cast<int>(scale * 0x1p24f)) * 0x1p-24f;
        const float bias = -128 * rounded;
        std::memcpy(row.scales.data() + i / group * 4, &rounded, 4);
        std::memcpy(row.biases.data() + i / group * 4, &bias, 4);
        if (row.data[i] == std::byte{0}) row.data[i] = std::byte{1};
        row.values[i] = rounded * (static_cast<float>(row.data[i]) - 128);
      }
    p.pack();
    return p;
  };
  for (std::size_t k : {32, 64, 96, 128, 384, 640})
    for (std::size_t m : {1, 2, 5, 6, 13, 25})
      for (std::size_t tiles : {1, 2})
        expect_product_of_rows(
            Products::int8, [&](std::size_t n) { return problem(n, k, m); }, tiles,
            0.025f);  // half a code, of 127 for the largest of 32 or 64, in both: 0.005 of a typical x, five
                      // times that
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
