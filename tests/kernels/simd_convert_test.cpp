#include <bit>
#include <cmath>
#include <limits>

#include "kernels/simd/convert.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

/// The value of an f16 (5 exponent, 10 mantissa bits) or bf16 (8, 7) pattern, by definition.
double value_of(std::uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int exponent = bits >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1), bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

void check_all_patterns(void (*widen)(const std::uint16_t*, std::size_t, float*),
                        void (*narrow)(const float*, std::size_t, std::uint16_t*), int exponent_bits) {
  const int mantissa_bits = 15 - exponent_bits;
  std::vector<std::uint16_t> bits(65536), back(65536);
  std::vector<float> wide(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  widen(bits.data(), bits.size(), wide.data());
  narrow(wide.data(), wide.size(), back.data());
  for (std::size_t i = 0; i < bits.size(); ++i) {
    const double want = value_of(bits[i], exponent_bits, mantissa_bits);
    if (std::isnan(want)) {
      ASSERT_TRUE(std::isnan(wide[i])) << i;
      ASSERT_TRUE(std::isnan(value_of(back[i], exponent_bits, mantissa_bits))) << i;
    } else {
      ASSERT_EQ(static_cast<double>(wide[i]), want) << i;
      ASSERT_EQ(back[i], bits[i]);
    }
  }
  // Between neighbours: the middle goes to the even one, the next f32 on either side to the nearer one.
  std::vector<float> x;
  std::vector<std::uint16_t> want;
  const std::size_t largest = (std::size_t{1} << 15) - (std::size_t{1} << mantissa_bits) - 1;
  for (std::size_t i = 0; i < largest; ++i) {
    const float middle =
        static_cast<float>((static_cast<double>(wide[i]) + static_cast<double>(wide[i + 1])) / 2);
    const auto low = static_cast<std::uint16_t>(i), high = static_cast<std::uint16_t>(i + 1);
    for (const std::uint16_t sign : {0, 0x8000}) {
      const float s = sign ? -1.0f : 1.0f;
      x.insert(x.end(), {s * std::nextafter(middle, 0.0f), s * middle,
                         s * std::nextafter(middle, std::numeric_limits<float>::infinity())});
      want.insert(want.end(), {static_cast<std::uint16_t>(low | sign),
                               static_cast<std::uint16_t>((i % 2 == 0 ? low : high) | sign),
                               static_cast<std::uint16_t>(high | sign)});
    }
  }
  std::vector<std::uint16_t> got(x.size());
  narrow(x.data(), x.size(), got.data());
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(got[i], want[i]) << x[i];
}

TEST(SimdConvert, F16EveryPatternAndEveryTie) {
  on_every_target([] { check_all_patterns(f16_to_f32, f32_to_f16, 5); });
}

TEST(SimdConvert, Bf16EveryPatternAndEveryTie) {
  on_every_target([] { check_all_patterns(bf16_to_f32, f32_to_bf16, 8); });
}

TEST(SimdConvert, Overflow) {
  on_every_target([] {
    const std::vector<float> x = {65519.996f, 65520.0f, -1e9f, std::numeric_limits<float>::infinity()};
    std::vector<std::uint16_t> y(4);
    f32_to_f16(x.data(), 4, y.data());
    EXPECT_EQ(y, (std::vector<std::uint16_t>{0x7bff, 0x7c00, 0xfc00, 0x7c00}));
    const float max = std::numeric_limits<float>::max();
    f32_to_bf16(&max, 1, y.data());
    EXPECT_EQ(y[0], 0x7f80);
  });
}

TEST(SimdConvert, EveryLengthWritesOnlyItsOwn) {
  on_every_target([] {
    const auto x = normal_floats(70, 14);
    for (std::size_t n = 0; n < 70; ++n) {
      std::vector<std::uint16_t> narrow(n + 1, 0xabcd);
      std::vector<float> wide(n + 1, 42.0f);
      f32_to_bf16(x.data(), n, narrow.data());
      bf16_to_f32(narrow.data(), n, wide.data());
      for (std::size_t i = 0; i < n; ++i)
        EXPECT_NEAR(wide[i], x[i], std::fabs(x[i]) / 256);  // 2^-8: half an ulp
      EXPECT_EQ(narrow[n], 0xabcd);
      EXPECT_EQ(wide[n], 42.0f);
    }
  });
}

}  // namespace
}  // namespace metal_candle::simd
