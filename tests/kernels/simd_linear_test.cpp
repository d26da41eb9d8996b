// The packed linear against double arithmetic, on every target, over remainders of n, k and rows.
#include "kernels/simd_linear_problem.h"

namespace metal_candle::simd {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// x as the quantized kernels see it, by the definition in linear.h: blocks of 32, int8, max / 127.
std::vector<double> rounded_activations(const Problem& p) {
  std::vector<double> out(p.x.size());
  for (std::size_t b = 0; b < p.x.size(); b += 32) {
    float largest = 0;
    for (std::size_t i = b; i < b + 32; ++i) largest = std::max(largest, std::abs(p.x[i]));
    const float scale = largest / 127.0f;
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    for (std::size_t i = b; i < b + 32; ++i)
      out[i] = static_cast<double>(scale) * std::nearbyint(p.x[i] * inverse);
  }
  return out;
}

/// Compares with the double product of the dequantized weights and `x`; `allowed(Σ|w·x|, |x| bound)` is the
/// tolerance.
template <class Allowed>
void expect_product(const Problem& p, const std::vector<float>& out, const std::vector<double>& x,
                    Allowed allowed) {
  for (std::size_t j = 0; j < kTileRows; ++j) {
    const std::vector<float> w = p.weight_row(j);
    for (std::size_t r = 0; r < p.m; ++r) {
      double sum = 0, size = 0;
      for (std::size_t i = 0; i < p.k; ++i) {
        sum += static_cast<double>(w[i]) * x[r * p.k + i];
        size += std::abs(static_cast<double>(w[i]) * x[r * p.k + i]);
      }
      const double got = out[r * Problem::kOutStride + j];
      ASSERT_NEAR(got, sum, allowed(w, r, size)) << label(p.format) << " n " << p.n << " k " << p.k << " m "
                                                 << p.m << " row " << r << " output " << j;
    }
  }
}

class SimdLinear : public testing::TestWithParam<SimdTarget> {
 protected:
  void SetUp() override { force_target(GetParam()); }
  void TearDown() override { force_target(supported_targets().back()); }
};

TEST_P(SimdLinear, QuantizedProductIsExactUpToFloatSums) {
  for (const WeightFormat& type : kQuantizedFormats) {
    const std::size_t unit = linear_k_unit(type);
    for (std::size_t k : {unit, 2 * unit, 3 * unit, 5 * unit}) {
      for (std::size_t m : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 14, 19, 25}) {
        for (std::size_t n : {kTileRows, std::size_t{1}, std::size_t{17}}) {
          if (n != kTileRows && m > 2) continue;
          const Problem p(type, n, k, m);
          const double terms = 8.0 + static_cast<double>(k) / 16;
          // Each block adds a scale part and a min part; both round a few times by 2⁻²⁴ of their size. The
          // parts are larger than the sum they make: |scale·code| + |min| is at most max code + 1 times the
          // values' spread.
          expect_product(p, p.run(), rounded_activations(p),
                         [&](const std::vector<float>& w, std::size_t r, double size) {
                           double largest = 0, x_size = 0;
                           for (float v : w) largest = std::max(largest, std::abs(static_cast<double>(v)));
                           for (std::size_t i = 0; i < k; ++i)
                             x_size += std::abs(static_cast<double>(p.x[r * k + i]));
                           return (size + 2 * largest * x_size) * terms * 0x1p-24;
                         });
        }
      }
    }
  }
}

TEST_P(SimdLinear, QuantizedErrorStaysWithinTheInt8Step) {
  for (const WeightFormat& type : kQuantizedFormats) {
    const Problem p(type, kTileRows, 512, 3);
    const std::vector<double> exact(p.x.begin(), p.x.end());
    // Rounding moves each activation by at most half a step, max|x| / 254 of its block; 1% covers the float
    // sums.
    expect_product(p, p.run(), exact, [&](const std::vector<float>& w, std::size_t r, double) {
      double bound = 0;
      for (std::size_t b = 0; b < p.k; b += 32) {
        double largest = 0, weight = 0;
        for (std::size_t i = b; i < b + 32; ++i) {
          largest = std::max(largest, std::abs(static_cast<double>(p.x[r * p.k + i])));
          weight += std::abs(static_cast<double>(w[i]));
        }
        bound += largest / 254 * weight;
      }
      return 1.01 * bound;
    });
  }
}

TEST_P(SimdLinear, ARowDoesNotDependOnItsBatch) {
  for (const WeightFormat& type : kQuantizedFormats) {
    const Problem all(type, kTileRows, 512, 40);
    const std::vector<float> together = all.run();
    for (std::size_t r : {0, 5, 12, 39}) {
      Problem one = all;
      one.m = 1;
      one.x.assign(all.x.begin() + static_cast<std::ptrdiff_t>(r * all.k),
                   all.x.begin() + static_cast<std::ptrdiff_t>((r + 1) * all.k));
      const std::vector<float> alone = one.run();
      for (std::size_t j = 0; j < kTileRows; ++j) {
        ASSERT_EQ(alone[j], together[r * Problem::kOutStride + j])
            << label(type) << " row " << r << " output " << j;
      }
    }
  }
}

TEST_P(SimdLinear, DenseProduct) {
  for (const WeightFormat& type : kDenseFormats) {
    for (std::size_t k : {1, 2, 3, 31, 64, 129}) {
      for (std::size_t m : {1, 2, 3, 5, 7, 11, 12, 13, 25}) {
        const Problem p(type, m % 2 ? kTileRows : 9, k, m);
        const std::vector<double> exact(p.x.begin(), p.x.end());
        // k fused or separate roundings of a running sum no larger than Σ|w·x|.
        expect_product(p, p.run(), exact, [&](const std::vector<float>&, std::size_t, double size) {
          return size * (2.0 * static_cast<double>(k) + 1) * 0x1p-24;
        });
      }
    }
  }
}

TEST_P(SimdLinear, ExtremeCodesDoNotSaturate) {
  for (const WeightFormat& format : {WeightFormat(DType::q8_0), WeightFormat::affine(8, 32, DType::f32)}) {
    for (std::uint8_t byte : {0x80, 0x7f, 0x81, 0x00, 0xff}) {
      Problem p(format, kTileRows, 64, 2);
      for (WeightRow& row : p.weights) {
        if (format.bits) {
          std::fill(row.data.begin(), row.data.end(), std::byte{byte});
          const float* scales = reinterpret_cast<const float*>(row.scales.data());
          const float* biases = reinterpret_cast<const float*>(row.biases.data());
          for (std::size_t i = 0; i < 64; ++i) row.values[i] = scales[i / 32] * byte + biases[i / 32];
        } else {
          for (std::size_t b : {2, 36})
            std::fill_n(row.data.begin() + static_cast<std::ptrdiff_t>(b), 32, std::byte{byte});
          dequantize(DType::q8_0, row.data.data(), row.values.data(), 64);
        }
      }
      p.pack();
      std::fill(p.x.begin(), p.x.begin() + 64, 3.0f);
      std::fill(p.x.begin() + 64, p.x.end(), -3.0f);
      // Two blocks, each with a scale and a min part that round a few times and may cancel: |bias| ≤ 0.16.
      expect_product(p, p.run(), rounded_activations(p),
                     [](const std::vector<float>&, std::size_t, double size) {
                       return (size + 64 * 3 * 0.32) * 10 * 0x1p-24;
                     });
    }
  }
}

/// What DenseProducts::half may be off by, as a share of Σ|w·x|, beside f32 sums. bf16: each operand moves by
/// at most 2⁻⁸ of itself (bf16 weights not at all). f16: by 2⁻¹¹ each, and 128 roundings of a running sum, by
/// 2⁻¹¹ of it at most and either way, are off by 0.026 typical products, which is 2⁻¹² of their sum; four
/// times that.
double half_error(DType type, SimdTarget target) {
  if (target == SimdTarget::avx512_bf16) return (type == DType::bf16 ? 1.0 : 2.01) * 0x1p-8;
  return target == SimdTarget::avx512_fp16 && type != DType::f32 ? 0x1p-9 : 0.0;
}

TEST_P(SimdLinear, HalfProducts) {
  for (const WeightFormat& type : kDenseFormats) {
    for (std::size_t k : {1, 2, 15, 16, 17, 31, 33, 64, 129, 300}) {
      for (std::size_t m : {1, 2, 5, 12, 13, 25}) {
        const Problem p(type, kTileRows, k, m);
        const std::vector<double> exact(p.x.begin(), p.x.end());
        expect_product(
            p, p.run(DenseProducts::half), exact, [&](const std::vector<float>&, std::size_t, double size) {
              return size *
                     (half_error(type.type, GetParam()) + (2.0 * static_cast<double>(k) + 1) * 0x1p-24);
            });
      }
    }
  }
}

TEST_P(SimdLinear, HalfProductsOfARowDoNotDependOnItsBatch) {
  for (const WeightFormat& type : kDenseFormats) {
    const Problem all(type, kTileRows, 300, 40);
    const std::vector<float> together = all.run(DenseProducts::half);
    for (std::size_t r : {0, 5, 31, 39}) {
      Problem one = all;
      one.m = 1;
      one.x.assign(all.x.begin() + static_cast<std::ptrdiff_t>(r * all.k),
                   all.x.begin() + static_cast<std::ptrdiff_t>((r + 1) * all.k));
      const std::vector<float> alone = one.run(DenseProducts::half);
      for (std::size_t j = 0; j < kTileRows; ++j)
        ASSERT_EQ(alone[j], together[r * Problem::kOutStride + j]) << label(type) << " row " << r;
    }
  }
}

TEST_P(SimdLinear, HalfProductsOfActivationsOfAnySize) {
  for (const WeightFormat& type : kDenseFormats) {
    for (float size : {0.0f, 1e-30f, 1e-6f, 3e4f, 1e30f}) {
      Problem p(type, kTileRows, 200, 5);
      for (float& x : p.x) x *= size;
      const std::vector<double> exact(p.x.begin(), p.x.end());
      expect_product(p, p.run(DenseProducts::half), exact,
                     [&](const std::vector<float>&, std::size_t, double sum) {
                       return sum * (half_error(type.type, GetParam()) + 500 * 0x1p-24);
                     });
    }
  }
}

TEST_P(SimdLinear, HalfProductsBeyondFloat16AreThoseOfFloats) {
  for (DType type : {DType::f16, DType::bf16}) {
    Problem p(type, kTileRows, 200, 4);
    std::fill(p.x.begin(), p.x.end(), 5.0f);
    p.x[200 + 7] = kNan;
    p.x[400 + 7] = std::numeric_limits<float>::infinity();
    const std::vector<std::byte> large = stored(type, 30000.0f);
    for (std::size_t i = 0; i < 200; ++i) std::copy(large.begin(), large.end(), &p.weights[3].data[2 * i]);
    dequantize(type, p.weights[3].data.data(), p.weights[3].values.data(), 200);
    p.pack();
    const std::vector<float> half = p.run(DenseProducts::half), floats = p.run(DenseProducts::f32);
    for (std::size_t r = 0; r < p.m; ++r) {
      const float got = half[r * Problem::kOutStride + 3], expected = floats[r * Problem::kOutStride + 3];
      if (std::isfinite(expected))
        EXPECT_NEAR(got, expected, half_error(type, GetParam()) * expected) << label(type) << " row " << r;
      else
        EXPECT_EQ(std::isnan(got), std::isnan(expected)) << label(type) << " row " << r;
    }
  }
}

TEST_P(SimdLinear, NonFiniteActivationsReachEveryOutputOfTheirRow) {
  for (float bad : {kNan, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    for (const WeightFormat& type : kQuantizedFormats) {
      Problem p(type, kTileRows, 512, 2);
      p.x[77] = bad;
      const std::vector<float> out = p.run();
      for (std::size_t j = 0; j < kTileRows; ++j) {
        ASSERT_TRUE(std::isnan(out[j])) << label(type);
        ASSERT_TRUE(std::isfinite(out[Problem::kOutStride + j])) << label(type);
      }
    }
  }
}

TEST_P(SimdLinear, TinyAndZeroActivations) {
  Problem p(DType::q4_1, kTileRows, 96, 1);
  std::fill(p.x.begin(), p.x.begin() + 32, 0.0f);
  std::fill(p.x.begin() + 32, p.x.begin() + 64, 1e-38f);
  std::fill(p.x.begin() + 64, p.x.end(), 1e-20f);
  const std::vector<float> out = p.run();
  for (std::size_t j = 0; j < kTileRows; ++j) {
    double sum = 0;
    const std::vector<float> w = p.weight_row(j);
    for (std::size_t i = 64; i < 96; ++i) sum += static_cast<double>(w[i]) * 1e-20;
    EXPECT_NEAR(out[j], sum, 1e-25);  // 2⁻¹⁸ of 32 · 0.3 · 1e-20
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, SimdLinear, testing::ValuesIn(supported_targets()),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace metal_candle::simd
