// Dequantization bit for bit: GGUF's block formats against goldens of Python's gguf
// (scripts/golden/dequantize.py), the 16-bit floats against their definition.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "kernels/simd/dequantize.h"
#include "kernels/simd/half.h"
#include "metal_candle/error.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

constexpr std::size_t kElements = 512;

class Dequantize : public testing::TestWithParam<DType> {};

TEST_P(Dequantize, MatchesTheFormatsDefinitionBitForBit) {
  const std::string path =
      std::string(MC_GOLDEN_DIR) + "/dequantize/" + std::string(name(GetParam())) + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::size_t stored = *byte_size(GetParam(), kElements);
  ASSERT_EQ(bytes.size(), stored + kElements * sizeof(float)) << path;

  std::vector<std::byte> blocks(stored + 1);  // misaligned, as a row in a file may be
  std::memcpy(blocks.data() + 1, bytes.data(), stored);
  on_every_target([&] {
    std::vector<float> values(kElements);
    dequantize(GetParam(), blocks.data() + 1, values.data(), kElements);
    for (std::size_t i = 0; i < kElements; ++i) {
      float want;
      std::memcpy(&want, bytes.data() + stored + i * sizeof want, sizeof want);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(values[i]), std::bit_cast<std::uint32_t>(want))
          << "element " << i;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Formats, Dequantize,
                         testing::Values(DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
                                         DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST(DequantizeHalf, EveryF16) {
  std::vector<std::uint16_t> bits(65536);
  for (std::size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<std::uint16_t>(i);
  std::vector<float> values(bits.size());
  dequantize(DType::f16, reinterpret_cast<const std::byte*>(bits.data()), values.data(), values.size());
  for (unsigned i = 0; i < 65536; ++i) {
    const int exponent = i >> 10 & 31, mantissa = i & 1023;
    const double sign = i >> 15 ? -1 : 1;
    if (exponent == 31 && mantissa != 0) {
      ASSERT_TRUE(std::isnan(values[i])) << i;
    } else if (exponent == 31) {
      ASSERT_EQ(values[i], sign * std::numeric_limits<double>::infinity()) << i;
    } else {
      const double want =
          sign * (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25));
      ASSERT_EQ(values[i], want) << i;
      ASSERT_EQ(std::signbit(values[i]), i >> 15 == 1) << i;
    }
  }
}

TEST(DequantizeHalf, Bf16IsTheUpperHalfAndRoundsToNearestEven) {
  for (unsigned i = 0; i < 65536; ++i) {
    const std::uint16_t bits = static_cast<std::uint16_t>(i);
    float value;
    dequantize(DType::bf16, reinterpret_cast<const std::byte*>(&bits), &value, 1);
    ASSERT_EQ(std::bit_cast<std::uint32_t>(value), i << 16);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value))));
    } else {
      ASSERT_EQ(float_to_bf16(value), bits);
    }
  }
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // a tie goes to the even neighbour,
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // up or down,
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81);  // anything above it up,
  EXPECT_EQ(float_to_bf16(std::bit_cast<float>(0x7f7fffffu)), 0x7f80);  // and the largest float to infinity.
}

TEST(DequantizeOther, F32AndF64) {
  const float f = -0.1f;
  const double d = 1.0 / 3;
  float out[2] = {};
  dequantize(DType::f32, reinterpret_cast<const std::byte*>(&f), out, 1);
  dequantize(DType::f64, reinterpret_cast<const std::byte*>(&d), out + 1, 1);
  EXPECT_EQ(out[0], f);
  EXPECT_EQ(out[1], static_cast<float>(d));
}

TEST(DequantizeOther, IntegersAreRefusedByName) {
  const std::byte byte{};
  float out;
  EXPECT_FALSE(can_dequantize(DType::i32));
  try {
    dequantize(DType::i32, &byte, &out, 0);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_NE(std::string(error.what()).find("i32"), std::string::npos);
  }
}

}  // namespace
}  // namespace metal_candle::simd
