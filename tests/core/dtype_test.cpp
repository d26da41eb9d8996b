#include "core/dtype.h"

#include <gtest/gtest.h>

#include <set>

namespace metal_candle {
namespace {

struct Expected {
  DType type;
  std::string_view name;
  std::size_t elements, bytes;
};

// Quantized layouts: GGML_QUANT_SIZES of Python's gguf 0.19.
constexpr Expected kTable[] = {
    {DType::f32, "f32", 1, 4},       {DType::f16, "f16", 1, 2},       {DType::bf16, "bf16", 1, 2},
    {DType::f64, "f64", 1, 8},       {DType::i8, "i8", 1, 1},         {DType::i16, "i16", 1, 2},
    {DType::i32, "i32", 1, 4},       {DType::i64, "i64", 1, 8},       {DType::u8, "u8", 1, 1},
    {DType::u16, "u16", 1, 2},       {DType::u32, "u32", 1, 4},       {DType::u64, "u64", 1, 8},
    {DType::boolean, "bool", 1, 1},  {DType::q4_0, "q4_0", 32, 18},   {DType::q4_1, "q4_1", 32, 20},
    {DType::q5_0, "q5_0", 32, 22},   {DType::q5_1, "q5_1", 32, 24},   {DType::q8_0, "q8_0", 32, 34},
    {DType::q2_k, "q2_k", 256, 84},  {DType::q3_k, "q3_k", 256, 110}, {DType::q4_k, "q4_k", 256, 144},
    {DType::q5_k, "q5_k", 256, 176}, {DType::q6_k, "q6_k", 256, 210},
};

TEST(DType, NamesAndBlocks) {
  std::set<std::string_view> names;
  for (const Expected& want : kTable) {
    SCOPED_TRACE(want.name);
    EXPECT_EQ(name(want.type), want.name);
    EXPECT_EQ(block_elements(want.type), want.elements);
    EXPECT_EQ(block_bytes(want.type), want.bytes);
    EXPECT_EQ(is_quantized(want.type), want.elements > 1);
    EXPECT_TRUE(names.insert(name(want.type)).second);
    EXPECT_EQ(byte_size(want.type, 3 * want.elements), 3 * want.bytes);
    EXPECT_EQ(byte_size(want.type, 0), 0u);
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(DType::q6_k) + 1);
}

TEST(DType, ByteSizeRefusesPartBlocksAndOverflow) {
  EXPECT_EQ(byte_size(DType::q4_1, 33), std::nullopt);
  EXPECT_EQ(byte_size(DType::q6_k, 128), std::nullopt);
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  EXPECT_EQ(byte_size(DType::u8, kMost), kMost);
  EXPECT_EQ(byte_size(DType::f16, kMost), std::nullopt);
  EXPECT_EQ(byte_size(DType::f16, kMost / 2), kMost - 1);
  EXPECT_EQ(byte_size(DType::f64, std::uint64_t{1} << 61), std::nullopt);
  EXPECT_EQ(byte_size(DType::q5_1, std::uint64_t{1} << 63), std::uint64_t{24} << 58);
}

}  // namespace
}  // namespace metal_candle
