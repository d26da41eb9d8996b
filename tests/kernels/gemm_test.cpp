// Products of training against sums in double, on every SIMD target.
#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <string>

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

void check(const Shape& s, bool accumulate) {
  SCOPED_TRACE(std::to_string(s.m) + " x " + std::to_string(s.n) + " x " + std::to_string(s.k));
  const auto a = normal_floats(s.m * s.k, 1), b = normal_floats(s.n * s.k, 2);
  const std::size_t stride = s.n + 3;
  const std::vector<float> before = normal_floats(s.m * stride, 3);
  std::vector<float> c = before;
  const FloatRows rows(b.data(), s.b_transposed ? s.k : s.n);
  const GemmTerm term{
      {a.data(), s.a_transposed ? 1 : s.k, s.a_transposed ? s.m : 1}, &rows, s.b_transposed, s.k, 0, s.n};
  gemm({s.m, s.n, {&term, 1}, c.data(), stride, accumulate});
  for (std::size_t i = 0; i < s.m; ++i) {
    for (std::size_t j = 0; j < s.n; ++j) {
      double sum = accumulate ? before[i * stride + j] : 0;
      for (std::size_t p = 0; p < s.k; ++p) {
        const float x = a[s.a_transposed ? p * s.m + i : i * s.k + p];
        const float y = b[s.b_transposed ? j * s.k + p : p * s.n + j];
        sum += static_cast<double>(x) * y;
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
                                      {40, 3, 600},
                                      {3, 1601, 650}})
          check({m, n, k, at, bt}, at != bt);
  });
}

// c = a · b with 16-bit products, and what it should be: in double, and with operands rounded to bfloat16.
struct HalfProduct {
  std::size_t m, n, k;
  std::vector<float> a, b;  // [m, k], [k, n]
  std::vector<float> c;

  void run(bool a_transposed, bool b_transposed, std::vector<float> start = {}) {
    std::vector<float> at(m * k), bt(n * k);
    for (std::size_t p = 0; p < k; ++p) {
      for (std::size_t i = 0; i < m; ++i) at[p * m + i] = a[i * k + p];
      for (std::size_t j = 0; j < n; ++j) bt[j * k + p] = b[p * n + j];
    }
    const FloatRows rows(b_transposed ? bt.data() : b.data(), b_transposed ? k : n);
    const GemmTerm term{
        a_transposed ? GemmRows{at.data(), 1, m} : GemmRows{a.data(), k, 1}, &rows, b_transposed, k, 0, n};
    c = start.empty() ? std::vector<float>(m * n) : start;
    gemm({m, n, {&term, 1}, c.data(), n, !start.empty(), true});
  }
  double exact(std::size_t i, std::size_t j) const {
    double sum = 0;
    for (std::size_t p = 0; p < k; ++p) sum += static_cast<double>(a[i * k + p]) * b[p * n + j];
    return sum;
  }
  double rounded(std::size_t i, std::size_t j) const {
    double sum = 0;
    for (std::size_t p = 0; p < k; ++p) sum += static_cast<double>(bf16(a[i * k + p])) * bf16(b[p * n + j]);
    return sum;
  }
};

// Row by row, the error is at most that of rounding both operands to bfloat16.
void check_half(HalfProduct& x, bool a_transposed, bool b_transposed) {
  SCOPED_TRACE(std::to_string(x.m) + " x " + std::to_string(x.n) + " x " + std::to_string(x.k));
  x.run(a_transposed, b_transposed);
  for (std::size_t i = 0; i < x.m; ++i) {
    double error = 0, allowed = 0, size = 0;
    for (std::size_t j = 0; j < x.n; ++j) {
      const double sum = x.exact(i, j);
      error += (x.c[i * x.n + j] - sum) * (x.c[i * x.n + j] - sum);
      allowed += (x.rounded(i, j) - sum) * (x.rounded(i, j) - sum);
      size += sum * sum;
    }
    ASSERT_GT(size, 0);
    ASSERT_LE(std::sqrt(error), 1.05 * std::sqrt(allowed) + 1e-5 * std::sqrt(size)) << "row " << i;
  }
}

TEST(GemmHalf, IsAsGoodAsOperandsOfBf16) {
  on_every_target([] {
    for (const auto& [m, n, k] : {std::array<std::size_t, 3>{12, 64, 64}, {14, 200, 300}, {5, 130, 1000}})
      for (const bool t : {false, true}) {
        HalfProduct x{m, n, k, normal_floats(m * k, 1), normal_floats(n * k, 2), {}};
        check_half(x, t, !t);
      }
  });
}

// Rows may be of any size, and so may B as a whole: gradients are small.
TEST(GemmHalf, ScaleDoesNotMatter) {
  on_every_target([] {
    HalfProduct x{20, 100, 300, normal_floats(20 * 300, 1), normal_floats(100 * 300, 2), {}};
    for (std::size_t i = 0; i < x.m; ++i)
      for (std::size_t p = 0; p < x.k; ++p)
        x.a[i * x.k + p] = std::ldexp(x.a[i * x.k + p], static_cast<int>(i) * 8 - 80);
    for (float& value : x.b) value = std::ldexp(value, -30);
    check_half(x, false, false);
    for (float& value : x.b) value = std::ldexp(value, 70);
    check_half(x, false, true);
  });
}

// Sums of one sign grow, and with them a short sum's roundings: still less than rounding the result to
// bfloat16.
TEST(GemmHalf, OneSign) {
  on_every_target([] {
    HalfProduct x{13, 70, 600, normal_floats(13 * 600, 1), normal_floats(70 * 600, 2), {}};
    for (std::vector<float>* values : {&x.a, &x.b})
      for (float& value : *values) value = std::abs(value);
    x.run(false, false);
    for (std::size_t i = 0; i < x.m; ++i)
      for (std::size_t j = 0; j < x.n; ++j)
        ASSERT_NEAR(x.c[i * x.n + j], x.exact(i, j), 0x1p-9 * x.exact(i, j)) << i << ", " << j;
  });
}

TEST(GemmHalf, AccumulatesInF32AndStaysWithinTheColumns) {
  on_every_target([] {
    HalfProduct x{3, 5, 7, std::vector<float>(21, 1.0f), std::vector<float>(35, 0x1p-12f), {}};
    x.run(false, false, std::vector<float>(15, 1.0f));
    for (const float value : x.c) EXPECT_EQ(value, 1.0f + 7 * 0x1p-12f);
  });
}

TEST(GemmHalf, WhatIsNotANumberStaysSo) {
  on_every_target([] {
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      HalfProduct x{2, 40, 100, normal_floats(200, 1), normal_floats(4000, 2), {}};
      x.a[150] = bad;
      x.run(false, true);
      EXPECT_TRUE(std::isfinite(x.c[0]));
      EXPECT_FALSE(std::isfinite(x.c[45]));
      x.a[150] = 1;
      x.b[7] = bad;
      x.run(false, false);
      EXPECT_FALSE(std::isfinite(x.c[7]));
    }
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
