#include "inference/stop_conditions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace metal_candle {
namespace {

using ::testing::HasSubstr;

/// Text before the stop string that is complete first, longest first among equals; by brute force.
std::string reference(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::size_t longest = 0;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0) {
        longest = std::max(longest, stop.size());
      }
    }
    if (longest > 0) return text.substr(0, end - longest);
  }
  return text;
}

std::string run_in_pieces(const std::string& text, const std::vector<std::string>& stops, std::size_t piece) {
  StopMatcher matcher(stops);
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += piece) out += matcher.push(text.substr(i, piece));
  return out + matcher.flush();
}

TEST(StopMatcher, CutsTheMatchAcrossTokenBorders) {
  StopMatcher matcher({"\nUser:"});
  EXPECT_EQ(matcher.push("Hello."), "Hello.");
  EXPECT_EQ(matcher.push("\nUs"), "");
  EXPECT_EQ(matcher.push("er"), "");
  EXPECT_FALSE(matcher.stopped());
  EXPECT_EQ(matcher.push(": more"), "");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("later"), "");
  EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, ReleasesAFalseBeginning) {
  StopMatcher matcher({"<end>"});
  EXPECT_EQ(matcher.push("a<en"), "a");
  EXPECT_EQ(matcher.push("ter"), "<enter");
  EXPECT_EQ(matcher.push("<e"), "");
  EXPECT_EQ(matcher.flush(), "<e");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, SelfOverlappingStopsAgreeWithBruteForceForEveryCut) {
  std::mt19937 random(3);
  const std::vector<std::vector<std::string>> sets = {
      {"aab"}, {"abab", "ba"}, {"aaa"}, {"abcabd", "cab"}, {"b", "ab"}, {"é", "aé"}, {"abc", "zzz", "ca"}};
  for (const auto& stops : sets) {
    for (int round = 0; round < 60; ++round) {
      std::string text;
      for (int i = 0; i < 12; ++i) text += std::vector<std::string>{"a", "b", "c", "é"}[random() % 4];
      for (std::size_t piece = 1; piece <= text.size(); ++piece) {
        ASSERT_EQ(run_in_pieces(text, stops, piece), reference(text, stops)) << text << " cut at " << piece;
      }
    }
  }
}

TEST(StopMatcher, IsLinearInLongStops) {
  // Quadratic work would be 10^11 steps here and run into the test's time limit.
  const std::string stop = std::string(300000, 'a') + "b";
  StopMatcher matcher({stop});
  std::string out;
  for (int i = 0; i < 600; ++i) out += matcher.push(std::string(1000, 'a'));
  out += matcher.flush();
  EXPECT_EQ(out.size(), 600000u);
}

TEST(StopMatcher, RefusesStopsThatCannotWork) {
  for (const char* stop : {"", "\x80tail"}) {
    try {
      StopMatcher matcher({stop});
      ADD_FAILURE() << "accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::invalid_argument);
      EXPECT_THAT(e.what(), HasSubstr("stop string"));
    }
  }
}

/// Tokens 0..: one byte each of the text given; 100 is EOS.
class ByteTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kEos = 300;
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions&) const override {
    std::vector<TokenId> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const TokenId> ids, bool) const override {
    std::string text;
    for (const TokenId id : ids) {
      if (id < 256) text += static_cast<char>(id);
    }
    return text;
  }
  std::unique_ptr<TextDecoder> make_decoder(bool) const override {
    struct Decoder final : TextDecoder {
      std::string held;
      // Holds back two-byte characters until whole, which is all these tests use.
      std::string push(TokenId id) override {
        if (id >= 256) return {};
        held += static_cast<char>(id);
        if (held.size() == 1 && (id & 0xE0) == 0xC0) return {};
        return std::exchange(held, {});
      }
      std::string flush() override { return std::exchange(held, {}).empty() ? "" : "\xEF\xBF\xBD"; }
    };
    return std::make_unique<Decoder>();
  }
  std::size_t vocab_size() const noexcept override { return 301; }
  std::string_view piece(TokenId) const noexcept override { return {}; }
  std::optional<TokenId> find(std::string_view) const noexcept override { return {}; }
  bool is_special(TokenId id) const noexcept override { return id == kEos; }
  std::optional<TokenId> bos() const noexcept override { return {}; }
  std::optional<TokenId> eos() const noexcept override { return kEos; }
  bool ends_generation(TokenId id) const noexcept override { return id == kEos; }
  std::string_view kind() const noexcept override { return "byte"; }
};

struct Answer {
  std::string text;
  std::size_t tokens = 0;
  FinishReason reason = FinishReason::none;
};

Answer answer(const std::vector<TokenId>& ids, const StopOptions& options) {
  const ByteTokenizer tokenizer;
  StopConditions stop(tokenizer, options);
  Answer out;
  for (const TokenId id : ids) {
    StopStep step = stop.push(id);
    out.text += step.text;
    ++out.tokens;
    out.reason = step.reason;
    if (step.reason != FinishReason::none) return out;
  }
  out.text += stop.flush();
  return out;
}

std::vector<TokenId> bytes(std::string_view text) { return ByteTokenizer().encode(text, {}); }

TEST(StopConditions, EosEndsTheAnswerAndReleasesHeldText) {
  std::vector<TokenId> ids = bytes("go <en");
  ids.push_back(ByteTokenizer::kEos);
  ids.push_back('x');
  const Answer a = answer(ids, {.strings = {"<end>"}});
  EXPECT_EQ(a.text, "go <en");
  EXPECT_EQ(a.tokens, 7u);
  EXPECT_EQ(a.reason, FinishReason::eos);
}

TEST(StopConditions, IgnoredEosHasNoText) {
  const Answer a = answer({'a', ByteTokenizer::kEos, 'b'}, {.max_tokens = 3, .ignore_eos = true});
  EXPECT_EQ(a.text, "ab");
  EXPECT_EQ(a.reason, FinishReason::length);
}

TEST(StopConditions, LengthReleasesHeldTextAndIncompleteCharacters) {
  const Answer a = answer(bytes("ab<e\xC3"), {.max_tokens = 5, .strings = {"<end>"}});
  EXPECT_EQ(a.text, "ab<e\xEF\xBF\xBD");
  EXPECT_EQ(a.reason, FinishReason::length);
}

TEST(StopConditions, StopStringWinsOverLengthOnTheSameToken) {
  const Answer a = answer(bytes("ab."), {.max_tokens = 3, .strings = {"."}});
  EXPECT_EQ(a.text, "ab");
  EXPECT_EQ(a.reason, FinishReason::stop);
}

TEST(StopConditions, StopTokenHasNoText) {
  const Answer a = answer(bytes("abc"), {.tokens = {'b'}});
  EXPECT_EQ(a.text, "a");
  EXPECT_EQ(a.tokens, 2u);
  EXPECT_EQ(a.reason, FinishReason::stop);
}

TEST(StopConditions, FlushAfterCancellationGivesWhatWasHeld) {
  const Answer a = answer(bytes("ab<e"), {.strings = {"<end>"}});
  EXPECT_EQ(a.text, "ab<e");
  EXPECT_EQ(a.reason, FinishReason::none);
}

}  // namespace
}  // namespace metal_candle
