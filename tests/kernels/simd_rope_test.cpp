#include <algorithm>
#include <cmath>

#include "kernels/simd/rope.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

std::vector<float> inverse_frequencies(std::size_t rot_dim) {
  std::vector<float> inv(rot_dim / 2);
  for (std::size_t i = 0; i < inv.size(); ++i) {
    inv[i] =
        static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(rot_dim)));
  }
  return inv;
}

TEST(SimdRope, TableIsExactAtLargePositions) {
  const auto inv = inverse_frequencies(64);
  std::vector<float> cos(32), sin(32);
  for (std::int64_t position : {0L, 1L, 4095L, 131071L, 2000000000L}) {
    rope_table(position, inv.data(), 32, 1.5f, cos.data(), sin.data());
    for (std::size_t i = 0; i < 32; ++i) {
      const long double angle = static_cast<long double>(position) * inv[i];
      // double's angle is off by 2^-53 of itself: 3e-7 at 2e9; f32 rounding is 1e-7.
      EXPECT_NEAR(cos[i], static_cast<double>(1.5L * std::cos(angle)), 5e-7) << position;
      EXPECT_NEAR(sin[i], static_cast<double>(1.5L * std::sin(angle)), 5e-7) << position;
    }
  }
}

TEST(SimdRope, RotatesBothLayoutsAndLeavesTheRestAlone) {
  on_every_target([] {
    for (std::size_t rot : {2, 6, 8, 16, 30, 32, 64, 128, 254}) {
      const std::size_t dim = rot + 5;
      const auto x = normal_floats(dim, 9);
      std::vector<float> cos(rot / 2), sin(rot / 2);
      rope_table(77, inverse_frequencies(rot).data(), rot / 2, 1, cos.data(), sin.data());
      auto neox = x, interleaved = x;
      std::vector<float> apart(rot);
      rope_neox(neox.data(), rot, cos.data(), sin.data(), apart.data());
      rope_neox(neox.data(), rot, cos.data(), sin.data());
      EXPECT_TRUE(std::equal(apart.begin(), apart.end(), neox.begin()));
      rope_interleaved(interleaved.data(), rot, cos.data(), sin.data());
      for (std::size_t i = 0; i < rot / 2; ++i) {
        const double c = cos[i], s = sin[i];
        const auto rotated = [&](double a, double b, float low, float high) {
          EXPECT_NEAR(low, a * c - b * s, 1e-6) << rot;  // two products of size about 1 to 4 in f32
          EXPECT_NEAR(high, b * c + a * s, 1e-6) << rot;
        };
        rotated(x[i], x[i + rot / 2], neox[i], neox[i + rot / 2]);
        rotated(x[2 * i], x[2 * i + 1], interleaved[2 * i], interleaved[2 * i + 1]);
      }
      for (std::size_t i = rot; i < dim; ++i) {
        EXPECT_EQ(neox[i], x[i]);
        EXPECT_EQ(interleaved[i], x[i]);
      }
    }
  });
}

TEST(SimdRope, ScoresDependOnTheDistanceOnly) {
  on_every_target([] {
    const auto inv = inverse_frequencies(64), q = normal_floats(64, 10), k = normal_floats(64, 11);
    const auto score = [&](std::int64_t i, std::int64_t j) {
      std::vector<float> a = q, b = k, cos(32), sin(32);
      rope_table(i, inv.data(), 32, 1, cos.data(), sin.data());
      rope_neox(a.data(), 64, cos.data(), sin.data());
      rope_table(j, inv.data(), 32, 1, cos.data(), sin.data());
      rope_neox(b.data(), 64, cos.data(), sin.data());
      double sum = 0;
      for (int d = 0; d < 64; ++d) sum += static_cast<double>(a[d]) * b[d];
      return sum;
    };
    EXPECT_NEAR(score(10, 3), score(5010, 5003), 2e-5);
    EXPECT_GT(std::fabs(score(10, 3) - score(10, 4)), 1e-3);
  });
}

}  // namespace
}  // namespace metal_candle::simd
