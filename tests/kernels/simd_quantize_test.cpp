// Quantization bit for bit against goldens of Python's gguf (scripts/golden/quantize.py), and what it loses.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "kernels/simd/dequantize.h"
#include "kernels/simd/quantize.h"
#include "support/expect_error.h"
#include "support/quantize.h"

namespace metal_candle::simd {
namespace {

constexpr std::size_t kElements = 512;

class Quantize : public testing::TestWithParam<DType> {};

TEST_P(Quantize, MatchesGgmlsReferenceBitForBit) {
  const std::string path = std::string(MC_GOLDEN_DIR) + "/quantize/" + std::string(name(GetParam())) + ".bin";
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const std::size_t stored = *byte_size(GetParam(), kElements);
  ASSERT_EQ(bytes.size(), stored + kElements * sizeof(float)) << path;
  std::vector<float> values(kElements);
  std::memcpy(values.data(), bytes.data(), kElements * sizeof(float));
  std::vector<std::byte> blocks(stored + 1);  // misaligned, as a row in a file may be
  quantize(GetParam(), values.data(), blocks.data() + 1, kElements);
  for (std::size_t i = 0; i < stored; ++i)
    ASSERT_EQ(blocks[1 + i], static_cast<std::byte>(bytes[kElements * sizeof(float) + i]))
        << "byte " << i << " of a block of " << block_bytes(GetParam());
}

// The far end of q4_0 and q5_0 has one level less, so up to a whole step.
TEST_P(Quantize, LosesNoMoreThanAStep) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> values(kElements), back(kElements);
  for (float& x : values) x = normal(random);
  std::vector<std::byte> blocks(*byte_size(GetParam(), kElements));
  quantize(GetParam(), values.data(), blocks.data(), kElements);
  dequantize(GetParam(), blocks.data(), back.data(), kElements);
  const double levels = GetParam() == DType::q8_0                                ? 254
                        : GetParam() == DType::q5_0 || GetParam() == DType::q5_1 ? 31
                                                                                 : 15;
  for (std::size_t block = 0; block < kElements; block += 32) {
    float largest = 0;
    for (std::size_t i = block; i < block + 32; ++i) largest = std::max(largest, std::abs(values[i]));
    // An f16 scale is off by 2^-11 of itself.
    const double step = 2 * largest / levels;
    for (std::size_t i = block; i < block + 32; ++i)
      ASSERT_NEAR(values[i], back[i], 1.1 * step + largest / 1024) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Quantize,
                         testing::Values(DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST(QuantizeFloats, RoundsToNearest) {
  std::vector<float> values(kElements);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (float& x : values) x = normal(random);
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    ASSERT_TRUE(can_quantize(type));
    std::vector<std::byte> stored(*byte_size(type, kElements));
    quantize(type, values.data(), stored.data(), kElements);
    EXPECT_EQ(stored, test::encode(type, values)) << name(type);
  }
  EXPECT_FALSE(can_quantize(DType::q4_k));
  EXPECT_MC_ERROR(quantize(DType::q4_k, values.data(), nullptr, 256), ErrorCode::unsupported, "q4_k");
}

}  // namespace
}  // namespace metal_candle::simd
