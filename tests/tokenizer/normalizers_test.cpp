// Normalizers against values computed with Python's unicodedata and tokenizers; hostile charsmaps and rules.
#include "tokenizer/normalizers.h"

#include <gtest/gtest.h>

#include "metal_candle/error.h"
#include "tokenizer/precompiled_charsmap.h"

namespace metal_candle {
namespace {

TEST(Normalizers, UnicodeForms) {
  EXPECT_EQ(make_unicode_normalizer(UnicodeForm::nfc)->normalize("e\xCC\x81 ok"), "\xC3\xA9 ok");
  EXPECT_EQ(make_unicode_normalizer(UnicodeForm::nfd)->normalize("\xC3\xA9"), "e\xCC\x81");
  EXPECT_EQ(make_unicode_normalizer(UnicodeForm::nfkc)->normalize("ﬁ①Å"), "fi1Å");
  EXPECT_EQ(make_unicode_normalizer(UnicodeForm::nfkd)->normalize("½"), "1⁄2");
  EXPECT_EQ(make_unicode_normalizer(UnicodeForm::nfkc)->normalize(std::string("a\0b\xC3\xA9", 5)),
            std::string("a\0b\xC3\xA9", 5));
}

TEST(Normalizers, Bert) {
  const auto uncased = make_bert_normalizer({});
  EXPECT_EQ(uncased->normalize("Hé\tLLO\x01 字x\xEF\xBF\xBD"), "he llo  字 x");
  const auto cased = make_bert_normalizer({.strip_accents = false, .lowercase = false});
  EXPECT_EQ(cased->normalize("Hé字"), "Hé 字 ");
}

TEST(Normalizers, SmallOnes) {
  EXPECT_EQ(make_lowercase_normalizer()->normalize("ÀΣİ"), "àσi̇");
  EXPECT_EQ(make_strip_accents_normalizer()->normalize("e\xCC\x81\xC3\xA9"), "e\xC3\xA9");
  EXPECT_EQ(make_strip_normalizer(true, false)->normalize(" \xE3\x80\x80 a "), "a ");
  EXPECT_EQ(make_strip_normalizer(false, true)->normalize(" a \n"), " a");
  EXPECT_EQ(make_strip_normalizer(true, true)->normalize(" \n"), "");
  EXPECT_EQ(make_prepend_normalizer("▁")->normalize("a"), "▁a");
  EXPECT_EQ(make_prepend_normalizer("▁")->normalize(""), "");
  EXPECT_EQ(make_replace_normalizer("aa", "b")->normalize("aaaaa"), "bba");
  EXPECT_EQ(make_regex_replace_normalizer(" {2,}", " ")->normalize("a   b c"), "a b c");
  EXPECT_EQ(make_nmt_normalizer()->normalize("a\tb\x01\xE2\x80\x8B"), "a b ");
  EXPECT_EQ(make_byte_level_normalizer()->normalize(" é"), "ĠÃ©");
}

// What tokenizers 0.23.3 answers: its normal forms know Unicode 9.0, its BERT and its punctuation 8.0.
TEST(Normalizers, YoungerCharactersAreLeftAlone) {
  const auto form = [](UnicodeForm f, std::string_view text) {
    return make_unicode_normalizer(f)->normalize(std::string(text));
  };
  for (const auto f : {UnicodeForm::nfc, UnicodeForm::nfd, UnicodeForm::nfkc, UnicodeForm::nfkd}) {
    EXPECT_EQ(form(f, "a\u0345\u07FD"), "a\u0345\u07FD");  // a mark of 11.0 stays where it is
    EXPECT_EQ(form(f, "a\u0345\u0334"), "a\u0334\u0345");  // one of 1.1 goes to its place
    EXPECT_EQ(form(f, "\U00011935\U00011930"), "\U00011935\U00011930");
    EXPECT_EQ(form(f, "\U00011938"), "\U00011938");
  }
  EXPECT_EQ(form(UnicodeForm::nfkc, "\u32FE\u32FF\u3300"), "ヲ\u32FFアパート");  // the square era name Reiwa
  EXPECT_EQ(form(UnicodeForm::nfc, "漢e\u0301字e\u0301か\u3099。"), "漢é字éが。");
  EXPECT_EQ(form(UnicodeForm::nfc, "\u1112\u1161\u11AB한"), "한한");
  EXPECT_EQ(make_bert_normalizer({})->normalize("a\u0890b\u0301c\u0898\u0600d"), "a\u0890bc\u0898d");
  EXPECT_EQ(make_strip_accents_normalizer()->normalize("a\u0301b\u0898"), "ab\u0898");
  EXPECT_EQ(make_lowercase_normalizer()->normalize("\u1C89\uA7CB\uA7DC\U00010D50\U00016EB8"),
            "\u1C8A\u0264\u019B\U00010D70\U00016ED3");
}

TEST(Normalizers, RulesThatExplodeAreRefused) {
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (int i = 0; i < 60; ++i) steps.push_back(make_replace_normalizer("a", "aa"));
  EXPECT_THROW(NormalizerSequence(std::move(steps)).normalize("aaaa"), Error);
  EXPECT_THROW(make_replace_normalizer("a", std::string(1 << 20, 'b'))->normalize(std::string(1000, 'a')),
               Error);
}

TEST(Normalizers, MalformedCharsmapsAreRefusedOrHarmless) {
  using namespace std::string_literals;
  EXPECT_THROW(make_precompiled_normalizer(""), Error);
  EXPECT_THROW(make_precompiled_normalizer("\x04\0\0\0"s), Error);              // no trie behind its size
  EXPECT_THROW(make_precompiled_normalizer("\x02\0\0\0\0\0"s), Error);          // not one unit
  EXPECT_THROW(make_precompiled_normalizer("\x04\0\0\0\0\0\0\0\xFF"s), Error);  // replacements not UTF-8
  EXPECT_THROW(make_precompiled_normalizer_base64("!!!!"), Error);
  // Units that point anywhere: nothing is read beyond the trie, and the text is left alone.
  std::string wild = "\x00\x04\0\0"s;
  for (int i = 0; i < 256; ++i) wild += {static_cast<char>(i), '\x07', '\xFF', '\x7F'};
  EXPECT_EQ(make_precompiled_normalizer(wild)->normalize("abc é"), "abc é");
}

}  // namespace
}  // namespace metal_candle
