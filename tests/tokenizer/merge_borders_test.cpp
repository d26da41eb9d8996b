#include "tokenizer/merge_borders.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

TEST(MergeBorders, AreExactForBytes) {
  MergeBorders borders;
  std::set<std::pair<unsigned, unsigned>> joined;
  for (unsigned i = 0; i < 300; ++i) {
    const unsigned a = i * 37 % 256, b = i * 101 % 256;
    std::string left, right;
    append_byte_level(std::string{'x', static_cast<char>(a)}, left);
    append_byte_level(std::string{static_cast<char>(b), 'y'}, right);
    borders.add(left, right, true);
    joined.emplace(a, b);
  }
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b)
      EXPECT_EQ(borders.joined(a, b), joined.count({a, b}) == 1) << a << " " << b;
}

TEST(MergeBorders, NeverMissAPairOfCharacters) {
  MergeBorders borders;
  const auto utf8 = [](char32_t code) {
    std::string out;
    append_utf8(code, out);
    return out;
  };
  const char32_t codes[] = {U'a', U'▁', U'é', U'漢', 0x1F600, 0x10FFFF};
  for (const char32_t a : codes)
    for (const char32_t b : codes)
      if (a < b) borders.add("x" + utf8(a), utf8(b) + "y", false);
  for (const char32_t a : codes)
    for (const char32_t b : codes) EXPECT_TRUE(a >= b || borders.joined(a, b));
  EXPECT_FALSE(borders.joined(U'e', U' '));
  EXPECT_FALSE(borders.joined(U'▁', U'a'));
}

}  // namespace
}  // namespace metal_candle
