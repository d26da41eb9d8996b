#include <cmath>
#include <limits>

#include "kernels/simd/activation.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

std::vector<float> ramp(float from, float to, std::size_t n) {
  std::vector<float> x(n);
  for (std::size_t i = 0; i < n; ++i)
    x[i] = from + (to - from) * static_cast<float>(i) / static_cast<float>(n - 1);
  return x;
}

double ulp(double value) {
  const float f = static_cast<float>(std::fabs(value));
  return std::nextafter(f, std::numeric_limits<float>::infinity()) - static_cast<double>(f);
}

TEST(SimdActivation, ExpWithinTwoUlp) {
  on_every_target([] {
    for (const auto& x : {ramp(-1, 1, 5001), ramp(-88, 88.7f, 100001), ramp(-103.9f, -87, 1003)}) {
      std::vector<float> y(x.size());
      exp(x.data(), x.size(), y.data());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double want = std::exp(static_cast<double>(x[i]));
        ASSERT_NEAR(y[i], want, 2 * ulp(want)) << x[i];
      }
    }
  });
}

TEST(SimdActivation, ExpAtTheEdges) {
  on_every_target([] {
    const float inf = std::numeric_limits<float>::infinity();
    const std::vector<float> x = {0, -0.0f, -inf, inf, 88.8f, 1000, -105, -1e30f, std::nanf("")};
    std::vector<float> y(x.size());
    exp(x.data(), x.size(), y.data());
    EXPECT_EQ(y[0], 1);
    EXPECT_EQ(y[1], 1);
    EXPECT_EQ(y[2], 0);
    EXPECT_EQ(y[3], inf);
    EXPECT_EQ(y[4], inf);
    EXPECT_EQ(y[5], inf);
    EXPECT_EQ(y[6], 0);
    EXPECT_EQ(y[7], 0);
    EXPECT_TRUE(std::isnan(y[8]));
  });
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_exact(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double gelu_tanh_exact(double x) {
  return x * sigmoid(2 * std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x));
}

/// relative: exp's argument is rounded to 2^-24 of itself, so its result to (|argument| + few) * 2^-24.
template <class F>
void expect_close(const std::vector<float>& x, const std::vector<float>& y, const F& want, double relative) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double w = want(static_cast<double>(x[i]));
    ASSERT_NEAR(y[i], w, relative * std::fabs(w) + 1e-37) << x[i];
  }
}

TEST(SimdActivation, SiluAndGelus) {
  on_every_target([] {
    const auto x = ramp(-12, 12, 20011);
    std::vector<float> y(x.size());
    silu(x.data(), x.size(), y.data());
    expect_close(
        x, y, [](double v) { return v * sigmoid(v); }, 1e-6);
    gelu(x.data(), x.size(), y.data());
    for (std::size_t i = 0; i < x.size(); ++i)
      ASSERT_NEAR(y[i], gelu_exact(x[i]), 3e-7 * std::fabs(x[i])) << x[i];
    gelu_tanh(x.data(), x.size(), y.data());
    expect_close(
        x, y, [](double v) { return gelu_tanh_exact(v); }, 4e-5);  // argument up to 88, three roundings
    const auto small = ramp(-2, 2, 4001);
    y.resize(small.size());
    gelu_tanh(small.data(), small.size(), y.data());
    expect_close(
        small, y, [](double v) { return gelu_tanh_exact(v); }, 1e-6);
  });
}

TEST(SimdActivation, GatedFormsOfEveryRemainder) {
  on_every_target([] {
    for (std::size_t n = 1; n < 40; ++n) {
      const auto gate = normal_floats(n, 12, 2), up = normal_floats(n, 13);
      std::vector<float> y(n + 1, 42.0f);
      swiglu(gate.data(), up.data(), n, y.data());
      for (std::size_t i = 0; i < n; ++i) {
        const double want = gate[i] * sigmoid(gate[i]) * up[i];
        ASSERT_NEAR(y[i], want, 1e-6 * std::fabs(want) + 1e-37);
      }
      EXPECT_EQ(y[n], 42.0f);
      geglu_tanh(gate.data(), up.data(), n, y.data());
      for (std::size_t i = 0; i < n; ++i) {
        const double want = gelu_tanh_exact(gate[i]) * up[i];
        ASSERT_NEAR(y[i], want, 1e-5 * std::fabs(want) + 1e-37);
      }
      EXPECT_EQ(y[n], 42.0f);
    }
  });
}

TEST(SimdActivation, GeluOfRowsIsGeluOfEach) {
  on_every_target([] {
    constexpr std::size_t kRows = 3, kStride = 45;
    for (std::size_t n = 1; n < 40; ++n) {
      const auto x = normal_floats(kRows * kStride, 14, 2), bias = normal_floats(n, 15);
      std::vector<float> y(kRows * kStride, 42.0f);
      for (const float* b : {bias.data(), static_cast<const float*>(nullptr)}) {
        gelu_rows(x.data(), kStride, b, kRows, n, y.data(), kStride);
        for (std::size_t r = 0; r < kRows; ++r) {
          for (std::size_t i = 0; i < n; ++i) {
            const float at = x[r * kStride + i] + (b ? b[i] : 0);
            ASSERT_NEAR(y[r * kStride + i], gelu_exact(at), 3e-7 * std::fabs(at));
          }
          ASSERT_EQ(y[r * kStride + n], 42.0f);
        }
      }
    }
  });
}

TEST(SimdActivation, ExtremesStayFiniteAndNanStays) {
  on_every_target([] {
    const std::vector<float> x = {-1e4f, 1e4f, -200, 200, std::nanf("")};
    for (auto f : {silu, gelu, gelu_tanh}) {
      std::vector<float> y(x.size());
      f(x.data(), x.size(), y.data());
      EXPECT_EQ(y[0], 0);
      EXPECT_EQ(y[1], 1e4f);
      EXPECT_NEAR(y[2], 0, 1e-37);
      EXPECT_EQ(y[3], 200);
      EXPECT_TRUE(std::isnan(y[4]));
    }
  });
}

}  // namespace
}  // namespace metal_candle::simd
