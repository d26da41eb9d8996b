// UTF-8 reading against the Unicode Standard's table 3-8 and Python's replacements; classes against
// well-known characters (the whole table is compared with tokenizers by scripts/golden/tokenizer_unicode.py's
// check).
#include "tokenizer/unicode.h"

#include <gtest/gtest.h>

#include "tokenizer/utf8_stream.h"

namespace metal_candle {
namespace {

constexpr const char* kBad = "\xEF\xBF\xBD";

std::string bad(int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += kBad;
  return out;
}

TEST(Unicode, BadSequencesAreReplacedByMaximalSubparts) {
  // Each right side is bytes.decode("utf-8", "replace") of Python 3.
  EXPECT_EQ(replace_invalid_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), bad(8) + "A");
  EXPECT_EQ(replace_invalid_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), bad(8) + "A");
  EXPECT_EQ(replace_invalid_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), bad(5) + "A" + bad(2) + "B");
  EXPECT_EQ(replace_invalid_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), bad(4) + "A");
  EXPECT_EQ(replace_invalid_utf8("0123456\xC3"), "0123456" + bad(1));
  EXPECT_EQ(replace_invalid_utf8(""), "");
}

TEST(Unicode, EveryCodePointSurvives) {
  for (char32_t code = 0; code < 0x110000; ++code) {
    if (code >= 0xD800 && code < 0xE000) continue;
    std::string text;
    append_utf8(code, text);
    const Utf8Char c = read_utf8(text, 0);
    ASSERT_TRUE(c.valid);
    ASSERT_EQ(c.code, code);
    ASSERT_EQ(c.length, text.size());
    ASSERT_EQ(find_invalid_utf8(text), text.size());
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      ASSERT_EQ(incomplete_utf8_tail(text.substr(0, cut)), cut);
      ASSERT_EQ(find_invalid_utf8(text.substr(0, cut)), 0u);
    }
  }
}

TEST(Unicode, TailsThatCannotBecomeCharactersAreNotHeld) {
  EXPECT_EQ(incomplete_utf8_tail("a\xE0\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xED\xA0"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\x80\x80\x80"), 0u);
  EXPECT_EQ(incomplete_utf8_tail("\xF5"), 0u);
  EXPECT_EQ(incomplete_utf8_tail(""), 0u);
}

TEST(Unicode, StreamsEqualTheWholeHoweverTheyAreCut) {
  const std::string text = "a\xC3\xA9\xF0\x9F\x98\x80\xFFz\xE2\x82\xE2\x82\xAC\xF0\x9F";
  for (std::size_t first = 0; first <= text.size(); ++first) {
    for (std::size_t second = first; second <= text.size(); ++second) {
      Utf8Stream stream;
      std::string out = stream.push(text.substr(0, first));
      out += stream.push(text.substr(first, second - first));
      out += stream.push(text.substr(second));
      out += stream.flush();
      ASSERT_EQ(out, replace_invalid_utf8(text)) << first << " " << second;
    }
  }
}

TEST(Unicode, Classes) {
  using namespace char_class_bits;
  const CharClasses classes;
  EXPECT_EQ(classes(U'a'), letter);
  EXPECT_EQ(classes(U'7'), number);
  EXPECT_EQ(classes(U'½'), number);
  EXPECT_EQ(classes(U' '), space);
  EXPECT_EQ(classes(U'\n'), space | other);
  EXPECT_EQ(classes(U'!'), punctuation);
  EXPECT_EQ(classes(U'$'), symbol);
  EXPECT_EQ(classes(0x301), mark | nonspacing);
  EXPECT_EQ(classes(0x903), mark);  // Devanagari visarga: spacing
  EXPECT_EQ(classes(U'字'), letter);
  EXPECT_EQ(classes(0x3000), space);
  EXPECT_EQ(classes(0x180E), other);    // no longer a space
  EXPECT_EQ(classes(0x105C0), letter);  // new in Unicode 16
  EXPECT_EQ(classes(0x378), 0);         // unassigned
  EXPECT_EQ(classes(0x10FFFF), 0);
  EXPECT_EQ(classes(0x110000), 0);
  EXPECT_TRUE(is_word_character(classes, U'_'));
  EXPECT_TRUE(is_word_character(classes, 0x24B6));
  EXPECT_FALSE(is_word_character(classes, U'½'));
  EXPECT_FALSE(is_word_character(classes, U'-'));
}

}  // namespace
}  // namespace metal_candle
