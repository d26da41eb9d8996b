// Pooling against its formulas, on numbers that can be checked by eye.
#include "embeddings/pooling.h"

#include <gtest/gtest.h>

#include <cmath>

namespace metal_candle {
namespace {

// Three tokens, two components.
constexpr float kHidden[] = {1, -4, 3, 2, 5, 8};

std::vector<float> pooled(Pooling mode, std::size_t skipped = 0) {
  std::vector<float> out(2);
  pool(mode, kHidden, 3, skipped, 2, out.data());
  return out;
}

TEST(PoolingTest, EveryMode) {
  EXPECT_EQ(pooled(Pooling::cls), (std::vector<float>{1, -4}));
  EXPECT_EQ(pooled(Pooling::mean), (std::vector<float>{3, 2}));
  EXPECT_EQ(pooled(Pooling::max), (std::vector<float>{5, 8}));
  EXPECT_EQ(pooled(Pooling::last_token), (std::vector<float>{5, 8}));
  const float root = std::sqrt(3.0f);
  EXPECT_EQ(pooled(Pooling::mean_sqrt_len), (std::vector<float>{9 / root, 6 / root}));
  EXPECT_EQ(pooled(Pooling::weighted_mean), (std::vector<float>{22.0f / 6, 24.0f / 6}));
}

TEST(PoolingTest, SkippedRowsDoNotCountWhileAnyAreLeft) {
  EXPECT_EQ(pooled(Pooling::cls, 1), (std::vector<float>{3, 2}));
  EXPECT_EQ(pooled(Pooling::mean, 1), (std::vector<float>{4, 5}));
  EXPECT_EQ(pooled(Pooling::weighted_mean, 1), (std::vector<float>{21.0f / 5, 28.0f / 5}));
  EXPECT_EQ(pooled(Pooling::mean, 3), pooled(Pooling::mean));
}

TEST(PoolingTest, NormalisingAZeroVectorLeavesIt) {
  std::vector<float> x{3, 4}, zero{0, 0};
  normalize_l2(x.data(), 2);
  normalize_l2(zero.data(), 2);
  EXPECT_EQ(x, (std::vector<float>{0.6f, 0.8f}));
  EXPECT_EQ(zero, (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace metal_candle
