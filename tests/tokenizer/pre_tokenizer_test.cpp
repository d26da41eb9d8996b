// The hand-written matchers against PCRE2 running the same expressions, the expressions' translation, and the
// small pre-tokenizers.
#include "tokenizer/pre_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "golden_lines.h"
#include "metal_candle/error.h"
#include "tokenizer/regex.h"
#include "tokenizer/split_stages.h"
#include "tokenizer/word_splitters.h"

namespace metal_candle {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> pieces(const PreTokenizer& stage, std::string_view text, bool first = true) {
  PreTokens tokens;
  tokens.reset(text, first);
  stage.run(tokens);
  std::vector<std::string> out;
  for (const PieceRange range : tokens.pieces()) out.emplace_back(tokens.text(range));
  return out;
}

constexpr const char* kExpressions[] = {
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};

TEST(PreTokenizer, HandWrittenMatchersEqualPcre2) {
  const testing::GoldenLines lines;
  for (const std::string expression : kExpressions) {
    const auto known = find_word_splitter(expression);
    ASSERT_TRUE(known) << expression;
    // In a group of its own the expression is no longer recognised, and PCRE2 runs it.
    ASSERT_FALSE(find_word_splitter("(?:" + expression + ")"));
    const auto general = make_regex_splitter("(?:" + expression + ")", SplitBehavior::isolated, false);
    for (int i = 0; i < 3000; ++i) {
      const std::string line = lines.line(300'000 + i);
      ASSERT_EQ(pieces(*known, line), pieces(*general, line)) << line;
    }
  }
}

// What tokenizers 0.23.3 answers: punctuation is Unicode 8.0's, \\w Unicode 16.0's.
TEST(PreTokenizer, CharactersOfTwoUnicodeVersions) {
  EXPECT_THAT(pieces(*make_punctuation_splitter(SplitBehavior::isolated), "a\u166Db\u061Dc!"),
              ElementsAre("a", "\u166D", "b\u061Dc", "!"));
  EXPECT_THAT(pieces(*make_word_splitter(), "a\U0001CCF0b½c"), ElementsAre("a\U0001CCF0b", "½", "c"));
}

TEST(PreTokenizer, SplitBehaviors) {
  const auto split = [](SplitBehavior behavior, bool invert = false) {
    return pieces(*make_text_splitter("-", behavior, invert), "the-final--countdown");
  };
  // The examples of tokenizers' documentation of SplitDelimiterBehavior.
  EXPECT_THAT(split(SplitBehavior::removed), ElementsAre("the", "final", "countdown"));
  EXPECT_THAT(split(SplitBehavior::isolated), ElementsAre("the", "-", "final", "-", "-", "countdown"));
  EXPECT_THAT(split(SplitBehavior::merged_with_previous), ElementsAre("the-", "final-", "-", "countdown"));
  EXPECT_THAT(split(SplitBehavior::merged_with_next), ElementsAre("the", "-final", "-", "-countdown"));
  EXPECT_THAT(split(SplitBehavior::contiguous), ElementsAre("the", "-", "final", "--", "countdown"));
  EXPECT_THAT(split(SplitBehavior::removed, true), ElementsAre("-", "-", "-"));
}

TEST(PreTokenizer, MetaspacePrependsAsAsked) {
  const auto run = [](PrependScheme scheme, bool split, bool first) {
    return pieces(*make_metaspace("▁", scheme, split), "a  b", first);
  };
  EXPECT_THAT(run(PrependScheme::always, true, false), ElementsAre("▁a", "▁", "▁b"));
  EXPECT_THAT(run(PrependScheme::first, true, false), ElementsAre("a", "▁", "▁b"));
  EXPECT_THAT(run(PrependScheme::first, false, true), ElementsAre("▁a▁▁b"));
  EXPECT_THAT(run(PrependScheme::never, false, true), ElementsAre("a▁▁b"));
}

TEST(PreTokenizer, ExpressionsMeanWhatOnigurumaMeans) {
  const auto matches = [](const std::string& expression, std::string_view text) {
    const Regex regex(expression);
    std::vector<std::string> out;
    for (Regex::Search search(regex, text); search.next();) {
      out.emplace_back(text.substr(search.begin(), search.end() - search.begin()));
    }
    return out;
  };
  EXPECT_THAT(matches(R"(\s+)", "a\xC2\xA0\x0B b\xE1\xA0\x8E"), ElementsAre("\xC2\xA0\x0B "));  // not U+180E
  EXPECT_THAT(matches(R"([\s,]+)", "a, b"), ElementsAre(", "));
  EXPECT_THAT(matches(R"(\w+)", "e\xCC\x81_1 x"), ElementsAre("e\xCC\x81_1", "x"));  // marks are of the word
  EXPECT_THAT(matches(R"(\b\d)", "1a2 3"), ElementsAre("1", "3"));
  EXPECT_THAT(matches(R"(a$)", "a\na"), ElementsAre("a", "a"));  // $ at every line's end
  EXPECT_THAT(matches("x*", "axxa"), ElementsAre("xx"));         // empty matches are skipped
  EXPECT_THAT(matches(escape_regex("a.b*[é"), "a.b*[é"), ElementsAre("a.b*[é"));
  EXPECT_THROW(Regex("[a&&b]"), Error);
  EXPECT_THROW(Regex("[a[b]]"), Error);
  EXPECT_THROW(Regex("("), Error);
  EXPECT_THROW(matches("(a+)+$", std::string(40, 'a') + "b"), Error);  // runaway, stopped by the step limit
}

}  // namespace
}  // namespace metal_candle
