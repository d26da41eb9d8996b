// Products of training against sums in double, on every SIMD target.
#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/compute_pool.h"
#include "kernels/simd/half.h"
#include "simd_attention_targets.h"

namespace metal_candle {
namespace {

using simd::normal_floats;
using simd::on_every_target;

float bf16(float x) { return simd::bf16_to_float(simd::float_to_bf16(x)); }

struct Shape {
  std::size_t m, n, k;
  bool a_transposed, b_transposed;
};

// A sum of k products in f32 is off by at most k rounding errors of the partial sums, in practice by sqrt(k).
double tolerance(std::size_t k) { return 4e-6 * std::sqrt(static_cast<double>(k)); }

void check(const Shape& s, bool round, bool accumulate) {
  SCOPED_TRACE(std::to_string(s.m) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k));
  const auto a = normal_floats(s.m * s.k, 1), b = normal_floats(s.n * s.k, 2);
  const std::size_t stride = s.n + 3;
  const std::vector<float> before = normal_floats(s.m * stride, 3);
  std::vector<float> c = before;
  const FloatRows rows(b.data(), s.b_transposed ? s.k : s.n);
  const GemmTerm term{
      {a.data(), s.a_transposed ? 1 : s.k, s.a_transposed ? s.m : 1}, &rows, s.b_transposed, s.k, 0, s.n};
  gemm({s.m, s.n, {&term, 1}, c.data(), stride, accumulate, round});
  for (std::size_t i = 0; i < s.m; ++i) {
    for (std::size_t j = 0; j < s.n; ++j) {
      double sum = accumulate ? before[i * stride + j] : 0;
      for (std::size_t p = 0; p < s.k; ++p) {
        const float x = a[s.a_transposed ? p * s.m + i : i * s.k + p];
        const float y = b[s.b_transposed ? j * s.k + p : p * s.n + j];
        sum += round ? static_cast<double>(bf16(x)) * bf16(y) : static_cast<double>(x) * y;
      }
      ASSERT_NEAR(c[i * stride + j], sum, tolerance(s.k) * 4) << i << ", " << j;
    }
    for (std::size_t j = s.n; j < stride; ++j)
      ASSERT_EQ(c[i * stride + j], before[i * stride + j]) << "wrote beyond the columns";
  }
}

TEST(Gemm, EveryOrientationAndRemainder) {
  on_every_target([] {
    for (const bool at : {false, true})
      for (const bool bt : {false, true})
        for (const auto& [m, n, k] : {std::array<std::size_t, 3>{1, 1, 1},
                                      {5, 7, 3},
                                      {12, 32, 16},
                                      {13, 33, 17},
                                      {25, 8, 300},
                                      {64, 300, 257},
                                      {3, 520, 40},
                                      {40, 3, 600}})
          check({m, n, k, at, bt}, false, at != bt);
  });
}

TEST(Gemm, RoundsToBf16) {
  on_every_target([] {
    for (const bool t : {false, true}) check({30, 70, 300, t, t}, true, false);
  });
}

// Terms over parts of the columns add up where they overlap.
TEST(Gemm, TermsOverSomeColumns) {
  on_every_target([] {
    constexpr std::size_t m = 14, n = 100, k = 9;
    const auto a = normal_floats(m * k, 1), b = normal_floats(n * k, 2);
    for (const bool bt : {false, true}) {
      for (const auto& [begin, end] :
           {std::pair<std::size_t, std::size_t>{0, 30}, {30, 100}, {47, 61}, {99, 100}}) {
        const FloatRows all(b.data(), bt ? k : n), some(b.data(), bt ? k : end - begin);
        const GemmTerm terms[] = {{{a.data(), k, 1}, &all, bt, k, 0, n},
                                  {{a.data(), k, 1}, &some, bt, k, begin, end}};
        std::vector<float> c(m * n);
        gemm({m, n, terms, c.data(), n});
        for (std::size_t i = 0; i < m; ++i)
          for (std::size_t j = 0; j < n; ++j) {
            double sum = 0;
            for (std::size_t p = 0; p < k; ++p) {
              sum += static_cast<double>(a[i * k + p]) * b[bt ? j * k + p : p * n + j];
              if (j >= begin && j < end)
                sum += static_cast<double>(a[i * k + p]) *
                       b[bt ? (j - begin) * k + p : p * (end - begin) + (j - begin)];
            }
            ASSERT_NEAR(c[i * n + j], sum, tolerance(2 * k) * 4) << i << ", " << j;
          }
      }
    }
  });
}

TEST(Gemm, TheSameBitsForAnyNumberOfThreads) {
  const unsigned before = compute_pool().size();
  constexpr std::size_t m = 50, n = 333, k = 700;
  const auto a = normal_floats(m * k, 1), b = normal_floats(n * k, 2);
  const FloatRows rows(b.data(), k);
  const GemmTerm term{{a.data(), k, 1}, &rows, true, k, 0, n};
  std::vector<float> first(m * n), c(m * n);
  gemm_serial({m, n, {&term, 1}, first.data(), n});
  for (const unsigned threads : {1u, 2u, 3u, 5u}) {
    set_compute_threads(threads);
    gemm({m, n, {&term, 1}, c.data(), n});
    EXPECT_EQ(c, first) << threads;
  }
  set_compute_threads(before);
}

}  // namespace
}  // namespace metal_candle
