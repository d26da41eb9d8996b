// Rows as int8 blocks against the definition, computed one value at a time, on every target.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kernels/simd/linear_layout.h"
#include "kernels/simd/quantize_row.h"
#include "kernels/simd/target.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

class QuantizeRow : public testing::TestWithParam<SimdTarget> {
 protected:
  void SetUp() override { force_target(GetParam()); }
  void TearDown() override { force_target(supported_targets().back()); }
};

void expect_block(const float* x, const ActBlock& block) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::abs(x[i]));
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  int halves[2] = {};
  for (int i = 0; i < 32; ++i) {
    const int q = static_cast<int>(std::nearbyint(x[i] * inverse));
    ASSERT_EQ(block.q[i], q) << i;
    halves[i / 16] += q;
  }
  const int sum = halves[0] + halves[1];
  EXPECT_EQ(block.scale, largest / 127.0f);
  EXPECT_EQ(block.sum, block.scale * static_cast<float>(sum));
  EXPECT_EQ(block.start, kMagicBits - kWideOffset * sum);
  EXPECT_EQ(block.minus_half[0], -halves[0]);
  EXPECT_EQ(block.minus_half[1], -halves[1]);
}

std::vector<float> normal(std::size_t n) { return normal_floats(n, 3, 4.0f); }

TEST_P(QuantizeRow, HoldsCodesScalesAndSums) {
  for (const std::size_t blocks : {1, 2, 3, 4, 5, 7, 8, 16, 18, 23, 64}) {
    std::vector<float> x = normal(32 * blocks);
    std::fill_n(x.end() - 32, 16, 0.0f);
    std::vector<ActBlock> row(blocks);
    quantize_row(x.data(), x.size(), reinterpret_cast<std::byte*>(row.data()));
    for (std::size_t b = 0; b < blocks; ++b) {
      SCOPED_TRACE(std::to_string(b) + " of " + std::to_string(blocks));
      expect_block(&x[32 * b], row[b]);
    }
  }
}

TEST_P(QuantizeRow, RoundsHalvesToEven) {
  std::vector<float> x(32, 0.0f);
  x[0] = 127.0f;
  for (int i = 1; i < 32; ++i) x[static_cast<std::size_t>(i)] = static_cast<float>(i - 16) + 0.5f;
  ActBlock block;
  quantize_row(x.data(), 32, reinterpret_cast<std::byte*>(&block));
  for (int i = 1; i < 32; ++i) EXPECT_EQ(block.q[i] % 2, 0) << i;
  expect_block(x.data(), block);
}

TEST_P(QuantizeRow, AColumnLeavesOtherBlocksAlone) {
  constexpr std::size_t kRows = 21, kBlocksARow = 3;
  const std::vector<float> x = normal(32 * kRows);
  std::vector<ActBlock> rows(kRows * kBlocksARow);
  for (ActBlock& block : rows) block.start = 7;
  quantize_column(x.data(), kRows, reinterpret_cast<std::byte*>(&rows[1]), kBlocksARow * sizeof(ActBlock));
  for (std::size_t r = 0; r < kRows; ++r) {
    expect_block(&x[32 * r], rows[r * kBlocksARow + 1]);
    EXPECT_EQ(rows[r * kBlocksARow].start, 7);
    EXPECT_EQ(rows[r * kBlocksARow + 2].start, 7);
  }
}

TEST_P(QuantizeRow, OnlyABlockWithNanOrInfinityHasTheScaleNan) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = normal(128);
    x[40] = bad;
    ActBlock row[4];
    quantize_row(x.data(), x.size(), reinterpret_cast<std::byte*>(row));
    EXPECT_TRUE(std::isnan(row[1].scale));
    EXPECT_TRUE(std::isnan(row[1].sum));
    for (const int b : {0, 2, 3}) expect_block(&x[32 * static_cast<std::size_t>(b)], row[b]);
  }
}

TEST_P(QuantizeRow, TinyBlocksCountAsZeros) {
  const std::vector<float> x(32, 1e-38f);
  ActBlock block;
  quantize_row(x.data(), 32, reinterpret_cast<std::byte*>(&block));
  for (const std::int8_t q : block.q) EXPECT_EQ(q, 0);
  EXPECT_EQ(block.start, kMagicBits);
}

INSTANTIATE_TEST_SUITE_P(Targets, QuantizeRow, testing::ValuesIn(supported_targets()),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace metal_candle::simd
