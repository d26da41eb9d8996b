// The packed linear against double arithmetic, on every target, over remainders of n, k and rows.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
namespace {

constexpr DType kQuantized[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
                                DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k};
constexpr DType kDense[] = {DType::f32, DType::f16, DType::bf16};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Bytes = std::vector<std::byte>;

std::uint16_t half_bits(float x) {  // normal range only
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | (((bits >> 23 & 0xffu) - 112) << 10) |
                                    (bits >> 13 & 0x3ffu));
}

/// A random row of the format: every code and scale byte occurs, floats are moderate.
Bytes random_row(DType type, std::size_t k, std::mt19937& random) {
  Bytes row(*byte_size(type, k));
  const auto put_float = [&](std::size_t at, float x) {
    const std::uint16_t bits = half_bits(x);
    std::memcpy(row.data() + at, &bits, sizeof bits);
  };
  std::uniform_real_distribution<float> scale(0.001f, 0.02f);
  std::normal_distribution<float> normal;
  if (is_quantized(type)) {
    for (std::byte& b : row) b = static_cast<std::byte>(random());
    for (std::size_t at = 0; at < row.size(); at += block_bytes(type)) {
      switch (type) {
        case DType::q2_k: put_float(at + 80, scale(random)), put_float(at + 82, scale(random)); break;
        case DType::q3_k: put_float(at + 108, -scale(random)); break;
        case DType::q6_k: put_float(at + 208, scale(random) / 16); break;
        case DType::q4_0:
        case DType::q5_0:
        case DType::q8_0: put_float(at, scale(random)); break;
        default: put_float(at, scale(random)), put_float(at + 2, -scale(random)); break;
      }
    }
    return row;
  }
  for (std::size_t i = 0; i < k; ++i) {
    const float x = 0.05f * normal(random);
    if (type == DType::f16) {
      put_float(2 * i, std::copysign(std::max(std::abs(x), 1e-3f), x));
    } else if (type == DType::bf16) {
      std::memcpy(row.data() + 2 * i, reinterpret_cast<const char*>(&x) + 2, 2);
    } else {
      std::memcpy(row.data() + 4 * i, &x, 4);
    }
  }
  return row;
}

/// One tile (n ≤ kTileRows real rows), m activation rows, and what the kernel makes of them.
struct Problem {
  DType type;
  std::size_t n, k, m;
  std::vector<Bytes> weights;
  std::vector<float> x;
  Bytes tile;

  Problem(DType type, std::size_t n, std::size_t k, std::size_t m, unsigned seed = 1)
      : type(type), n(n), k(k), m(m) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const std::byte* rows[kTileRows] = {};
    for (std::size_t j = 0; j < n; ++j) weights.push_back(random_row(type, k, random));
    for (std::size_t j = 0; j < n; ++j) rows[j] = weights[j].data();
    x.resize(m * k);
    for (float& v : x) v = normal(random);
    tile.resize(packed_tile_bytes(type, k));
    pack_tile(type, k, rows, tile.data());
  }

  std::vector<float> run() const {
    // Strides larger than needed, and every start misaligned, as callers may have them.
    const std::size_t stride = activation_row_bytes(type, k) + 8;
    Bytes acts(m * stride + 8);
    for (std::size_t r = 0; r < m; ++r) prepare_activations(type, &x[r * k], k, acts.data() + 4 + r * stride);
    Bytes moved(tile.size() + 1);
    std::copy(tile.begin(), tile.end(), moved.begin() + 1);
    std::vector<float> out(m * (kTileRows + 3), kNan);
    linear_tile(type, k, moved.data() + 1, acts.data() + 4, stride, m, out.data(), kTileRows + 3);
    return out;
  }

  std::vector<float> weight_row(std::size_t j) const {
    std::vector<float> row(k);
    if (j < n) dequantize(type, weights[j].data(), row.data(), k);
    return row;
  }
};

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
      const double got = out[r * (kTileRows + 3) + j];
      ASSERT_NEAR(got, sum, allowed(w, r, size))
          << name(p.type) << " n " << p.n << " k " << p.k << " m " << p.m << " row " << r << " output " << j;
    }
  }
}

class SimdLinear : public testing::TestWithParam<SimdTarget> {
 protected:
  void SetUp() override { force_target(GetParam()); }
  void TearDown() override { force_target(supported_targets().back()); }
};

TEST_P(SimdLinear, QuantizedProductIsExactUpToFloatSums) {
  for (DType type : kQuantized) {
    const std::size_t unit = block_elements(type);
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
  for (DType type : kQuantized) {
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
  for (DType type : kQuantized) {
    const Problem all(type, kTileRows, 512, 40);
    const std::vector<float> together = all.run();
    for (std::size_t r : {0, 5, 12, 39}) {
      Problem one = all;
      one.m = 1;
      one.x.assign(all.x.begin() + static_cast<std::ptrdiff_t>(r * all.k),
                   all.x.begin() + static_cast<std::ptrdiff_t>((r + 1) * all.k));
      const std::vector<float> alone = one.run();
      for (std::size_t j = 0; j < kTileRows; ++j) {
        ASSERT_EQ(alone[j], together[r * (kTileRows + 3) + j])
            << name(type) << " row " << r << " output " << j;
      }
    }
  }
}

TEST_P(SimdLinear, DenseProduct) {
  for (DType type : kDense) {
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
  for (std::uint8_t byte : {0x80, 0x7f, 0x81, 0x00}) {  // −128, 127, −127, 0
    Problem p(DType::q8_0, kTileRows, 64, 2);
    const std::byte* rows[kTileRows];
    for (std::size_t j = 0; j < kTileRows; ++j) {
      for (std::size_t b = 0; b < 2; ++b)
        std::fill_n(p.weights[j].begin() + static_cast<std::ptrdiff_t>(34 * b + 2), 32, std::byte{byte});
      rows[j] = p.weights[j].data();
    }
    pack_tile(p.type, p.k, rows, p.tile.data());
    std::fill(p.x.begin(), p.x.begin() + 64, 3.0f);
    std::fill(p.x.begin() + 64, p.x.end(), -3.0f);
    expect_product(p, p.run(), rounded_activations(p),
                   [](const std::vector<float>&, std::size_t, double size) { return size * 10 * 0x1p-24; });
  }
}

TEST_P(SimdLinear, NonFiniteActivationsReachEveryOutputOfTheirRow) {
  for (float bad : {kNan, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    for (DType type : {DType::q4_0, DType::q4_1, DType::q8_0, DType::q6_k, DType::q2_k}) {
      Problem p(type, kTileRows, 512, 2);
      p.x[77] = bad;
      const std::vector<float> out = p.run();
      for (std::size_t j = 0; j < kTileRows; ++j) {
        ASSERT_TRUE(std::isnan(out[j])) << name(type);
        ASSERT_TRUE(std::isfinite(out[kTileRows + 3 + j])) << name(type);
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

TEST(SimdPack, RowsComeBackBitForBit) {
  for (const auto& types : {std::vector<DType>(std::begin(kQuantized), std::end(kQuantized)),
                            std::vector<DType>(std::begin(kDense), std::end(kDense))}) {
    for (DType type : types) {
      const Problem p(type, 29, is_quantized(type) ? 512 : 77, 1);
      for (std::size_t j = 0; j < kTileRows; ++j) {
        const std::vector<float> want = p.weight_row(j);
        std::vector<float> got(p.k, kNan);
        unpack_row(type, p.k, p.tile.data(), j, got.data());
        for (std::size_t i = 0; i < p.k; ++i)
          ASSERT_EQ(got[i], want[i]) << name(type) << " row " << j << " input " << i;
      }
    }
  }
}

TEST(SimdPack, TilesStayCloseToTheFilesBits) {
  for (DType type : kQuantized) {
    const double file = static_cast<double>(*byte_size(type, 256 * kTileRows));
    EXPECT_LE(static_cast<double>(packed_tile_bytes(type, 256)), 1.037 * file) << name(type);
  }
}

}  // namespace
}  // namespace metal_candle::simd
