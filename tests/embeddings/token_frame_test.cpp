// Cutting texts and pairs to a length, against transformers' rules worked out by hand.
#include "embeddings/token_frame.h"

#include <gtest/gtest.h>

#include "models/tokenizer_loader.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

using Ids = std::vector<TokenId>;

class TokenFrameTest : public testing::Test {
 protected:
  std::unique_ptr<Tokenizer> tokenizer = tokenizer_from_directory(MC_GOLDEN_DIR "/embeddings/bert");
  const TokenId cls = *tokenizer->find("[CLS]"), sep = *tokenizer->find("[SEP]");
};

TEST_F(TokenFrameTest, ATextIsCutAtTheSideThatIsNamed) {
  const TokenFrame frame(*tokenizer, 5, 1);
  EXPECT_EQ(frame.single({}, TruncationSide::right).tokens, (Ids{cls, sep}));
  EXPECT_EQ(frame.single({7, 8, 9}, TruncationSide::right).tokens, (Ids{cls, 7, 8, 9, sep}));
  EXPECT_EQ(frame.single({7, 8, 9, 10, 11}, TruncationSide::right).tokens, (Ids{cls, 7, 8, 9, sep}));
  EXPECT_EQ(frame.single({7, 8, 9, 10, 11}, TruncationSide::left).tokens, (Ids{cls, 9, 10, 11, sep}));
}

TEST_F(TokenFrameTest, TheLongerOfAPairGivesWayFirst) {
  const TokenFrame frame(*tokenizer, 8, 1);  // room for five
  const EncoderInput fits = frame.pair({7, 8}, {9}, true);
  EXPECT_EQ(fits.tokens, (Ids{cls, 7, 8, sep, 9, sep}));
  EXPECT_EQ(fits.types, (std::vector<std::uint8_t>{0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(frame.pair({7, 8}, {9, 10, 11, 12}, false).tokens, (Ids{cls, 7, 8, sep, 9, 10, 11, sep}));
  EXPECT_EQ(frame.pair({7, 8, 9, 10}, {11}, false).tokens, (Ids{cls, 7, 8, 9, 10, sep, 11, sep}));
  // What tokenizers 0.22 gives: the odd token is the longer's, or the second's of two equals.
  EXPECT_EQ(frame.pair({7, 8, 9, 10}, {11, 12, 13, 14}, false).tokens,
            (Ids{cls, 7, 8, sep, 11, 12, 13, sep}));
  EXPECT_EQ(frame.pair({7, 8, 9, 10}, {11, 12, 13}, false).tokens, (Ids{cls, 7, 8, 9, sep, 11, 12, sep}));
}

TEST_F(TokenFrameTest, TwoSeparatorsStandBetweenWhereTheModelSaysSo) {
  const TokenFrame frame(*tokenizer, 8, 2);
  EXPECT_EQ(frame.pair({7}, {8}, false).tokens, (Ids{cls, 7, sep, sep, 8, sep}));
}

TEST_F(TokenFrameTest, NoRoomIsAnError) {
  EXPECT_MC_ERROR(TokenFrame(*tokenizer, 3, 1), ErrorCode::invalid_argument, "no room");
}

}  // namespace
}  // namespace metal_candle
