#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/simd/softmax.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

double log_sum_exp_reference(const std::vector<float>& x) {
  const double max = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (float v : x) sum += std::exp(v - max);
  return max + std::log(sum);
}

TEST(SimdSoftmax, LogSumExpSoftmaxMaxAndArgmax) {
  on_every_target([] {
    for (std::size_t n : {1, 2, 5, 16, 31, 33, 1000, 49152, 151937}) {
      const auto x = normal_floats(n, 15, 4);
      const double want = log_sum_exp_reference(x);
      EXPECT_NEAR(log_sum_exp(x.data(), n), want, 1e-6 * std::fabs(want) + 1e-6);
      EXPECT_EQ(row_max(x.data(), n), *std::max_element(x.begin(), x.end()));
      EXPECT_EQ(argmax(x.data(), n), std::max_element(x.begin(), x.end()) - x.begin());
      std::vector<float> p(n);
      softmax(x.data(), n, 1, p.data());
      double total = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const double share = std::exp(x[i] - want);
        ASSERT_NEAR(p[i], share, 3e-6 * share + 1e-37);  // (max - x) up to 40 is rounded to 2^-24 of itself
        total += p[i];
      }
      EXPECT_NEAR(total, 1, 1e-6);
    }
  });
}

TEST(SimdSoftmax, ScaleIsAppliedToTheLogits) {
  on_every_target([] {
    std::vector<float> x = normal_floats(37, 16, 3), scaled = x;
    for (float& v : scaled) v *= 0.5f;
    std::vector<float> a(37), b(37);
    softmax(x.data(), 37, 0.5f, a.data());
    softmax(scaled.data(), 37, 1, b.data());
    for (int i = 0; i < 37; ++i) EXPECT_NEAR(a[i], b[i], 1e-6);
  });
}

TEST(SimdSoftmax, SpecialValues) {
  on_every_target([] {
    std::vector<float> x(40, -kInf);
    EXPECT_EQ(log_sum_exp(x.data(), 40), -kInf);
    x[33] = std::nanf("");
    EXPECT_TRUE(std::isnan(log_sum_exp(x.data(), 40)));
    EXPECT_EQ(row_max(x.data(), 40), -kInf);
    x[20] = 2;
    x[37] = 2;
    EXPECT_EQ(row_max(x.data(), 40), 2);
    EXPECT_EQ(argmax(x.data(), 40), 20u);
    EXPECT_TRUE(std::isnan(log_sum_exp(x.data(), 40)));
    x[33] = 1;
    EXPECT_NEAR(log_sum_exp(x.data(), 40), std::log(2 * std::exp(2.0) + std::exp(1.0)), 1e-6);
    const std::vector<float> nans(20, std::nanf(""));
    EXPECT_EQ(argmax(nans.data(), 20), 0u);
    const std::vector<float> far = {1e4f, 1e4f};
    EXPECT_NEAR(log_sum_exp(far.data(), 2), 1e4 + std::log(2.0), 1e-2);
  });
}

TEST(SimdSoftmax, TopKOrdersByValueThenIndex) {
  on_every_target([] {
    for (std::size_t n : {1, 7, 100, 5000}) {
      auto x = normal_floats(n, 17);
      for (float& v : x) v = std::round(v * 8);  // many ties
      if (n > 50) {
        x[3] = std::nanf("");
        x[50] = -kInf;
        x[n - 1] = 1000;
      }
      std::vector<std::uint32_t> all(n);
      std::iota(all.begin(), all.end(), 0u);
      const auto key = [&](std::uint32_t i) { return std::isnan(x[i]) ? -kInf : x[i]; };
      std::stable_sort(all.begin(), all.end(), [&](auto a, auto b) { return key(a) > key(b); });
      for (std::size_t k : {std::size_t{0}, std::size_t{1}, std::min<std::size_t>(40, n), n}) {
        std::vector<std::uint32_t> got(k);
        top_k(x.data(), n, k, got.data());
        EXPECT_TRUE(std::equal(got.begin(), got.end(), all.begin())) << n << " " << k;
      }
    }
  });
}

}  // namespace
}  // namespace metal_candle::simd
