// WordPiece: the longest known piece from the left, again and again (BERT).
#pragma once

#include <memory>
#include <string>

#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace metal_candle {

struct WordPieceOptions {
  TokenId unknown = -1;                  ///< Of a word that cannot be cut into known pieces.
  std::string continuing_prefix = "##";  ///< Of pieces inside a word.
  std::size_t longest_word = 100;        ///< Words of more characters are unknown.
};

class WordPiece final : public TokenModel {
 public:
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options);
  void encode(std::string_view piece, std::vector<TokenId>& out) const override;
  std::string_view kind() const noexcept override { return "wordpiece"; }

 private:
  std::shared_ptr<const Vocabulary> vocabulary_;
  WordPieceOptions options_;
};

}  // namespace metal_candle
