#include <gmock/gmock.h>

#include <cmath>

#include "kernels/simd/norm.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

// f32 sums of n squares in at least 4 partial sums: n/4 roundings of 2^-24 at worst, far fewer in practice.
constexpr double kTolerance = 2e-6;

void expect_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::fabs(want[i]))) << "at " << i << " of " << got.size();
  }
}

std::vector<double> rms_reference(const std::vector<float>& x, const std::vector<float>& w, double eps) {
  double squares = 0;
  for (float v : x) squares += static_cast<double>(v) * v;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * w[i];
  return out;
}

TEST(SimdNorm, RmsNormOfEveryRemainder) {
  on_every_target([] {
    for (std::size_t n : {1, 2, 3, 7, 8, 15, 16, 17, 31, 63, 64, 65, 100, 576, 2049}) {
      const auto x = normal_floats(n, 1, 3), w = normal_floats(n, 2);
      std::vector<float> out(n);
      rms_norm(x.data(), w.data(), 1e-5f, n, out.data());
      expect_near(out, rms_reference(x, w, 1e-5f), kTolerance);
      std::vector<float> in_place = x;
      rms_norm(in_place.data(), w.data(), 1e-5f, n, in_place.data());
      EXPECT_EQ(in_place, out);
    }
  });
}

TEST(SimdNorm, AddRmsNormKeepsTheSum) {
  on_every_target([] {
    for (std::size_t n : {5, 64, 577}) {
      const auto x = normal_floats(n, 3), delta = normal_floats(n, 4), w = normal_floats(n, 5);
      std::vector<float> sum = x, residual = x, out(n);
      for (std::size_t i = 0; i < n; ++i) sum[i] += delta[i];
      add_rms_norm(residual.data(), delta.data(), w.data(), 1e-6f, n, out.data());
      EXPECT_EQ(residual, sum);  // one addition each: the same bits
      expect_near(out, rms_reference(sum, w, 1e-6f), kTolerance);
    }
  });
}

TEST(SimdNorm, AddRowsOfEveryRemainder) {
  on_every_target([] {
    for (std::size_t n : {1, 7, 16, 31, 32}) {
      const auto x = normal_floats(3 * 40, 1), delta = normal_floats(3 * 35, 2);
      for (std::size_t stride : {0, 35}) {
        std::vector<float> sum = x;
        add_rows(sum.data(), 40, delta.data(), stride, 3, n);
        for (std::size_t r = 0; r < 3; ++r)
          for (std::size_t i = 0; i < 40; ++i)
            ASSERT_EQ(sum[r * 40 + i], i < n ? x[r * 40 + i] + delta[r * stride + i] : x[r * 40 + i]);
      }
    }
  });
}

TEST(SimdNorm, StoreRowsOfEveryRemainder) {
  on_every_target([] {
    for (std::size_t n : {1, 7, 16, 31, 35})
      for (const bool has_bias : {false, true})
        for (const bool accumulate : {false, true}) {
          const auto x = normal_floats(3 * 35, 1), bias = normal_floats(n, 2),
                     before = normal_floats(3 * 40, 3);
          std::vector<float> y = before;
          store_rows(x.data(), 35, has_bias ? bias.data() : nullptr, 3, n, y.data(), 40, accumulate);
          for (std::size_t r = 0; r < 3; ++r)
            for (std::size_t i = 0; i < 40; ++i) {
              const float old = before[r * 40 + i];
              const float value =
                  i < n ? (accumulate ? old : 0) + (x[r * 35 + i] + (has_bias ? bias[i] : 0)) : old;
              ASSERT_EQ(y[r * 40 + i], value) << "n " << n << ", row " << r << ", column " << i;
            }
        }
  });
}

TEST(SimdNorm, LayerNormOfRowsFarFromZero) {
  on_every_target([] {
    for (std::size_t n : {1, 3, 16, 17, 384, 771}) {
      auto x = normal_floats(n, 6);
      for (float& v : x) v += 1000;  // the variance must not be computed as E[x^2] - E[x]^2
      const auto w = normal_floats(n, 7), b = normal_floats(n, 8);
      double mean = 0, var = 0;
      for (float v : x) mean += static_cast<double>(v) / static_cast<double>(n);
      for (float v : x) var += (v - mean) * (v - mean) / static_cast<double>(n);
      std::vector<double> want(n), bare(n);
      for (std::size_t i = 0; i < n; ++i) {
        bare[i] = (x[i] - mean) / std::sqrt(var + 1e-5) * w[i];
        want[i] = bare[i] + b[i];
      }
      std::vector<float> out(n);
      // The f32 mean of values near 1000 is off by up to half an ulp, 3e-5, per unit deviation.
      layer_norm(x.data(), w.data(), b.data(), 1e-5f, n, out.data());
      expect_near(out, want, 3e-4);
      layer_norm(x.data(), w.data(), nullptr, 1e-5f, n, out.data());
      expect_near(out, bare, 3e-4);
    }
  });
}

TEST(SimdNorm, NanMakesTheRowNan) {
  on_every_target([] {
    std::vector<float> x(20, 1.0f), w(20, 1.0f), out(20);
    x[18] = std::nanf("");
    rms_norm(x.data(), w.data(), 1e-5f, 20, out.data());
    for (float v : out) EXPECT_TRUE(std::isnan(v));
  });
}

}  // namespace
}  // namespace metal_candle::simd
