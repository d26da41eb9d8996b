// The unigram language model of SentencePiece (Kudo, 2018): the segmentation with the highest sum of
// log-probabilities, found by dynamic programming.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace metal_candle {

class Unigram final : public TokenModel {
 public:
  /// `scores`: one a piece. `unknown`: -1 if there is none; then a text that needs it is
  /// Error(invalid_argument). Neighbouring unknown characters become one unknown token, or with
  /// `byte_fallback` the <0xXX> tokens of their bytes.
  Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::span<const double> scores, TokenId unknown,
          bool byte_fallback);
  void encode(std::string_view piece, std::vector<TokenId>& out) const override;
  std::string_view kind() const noexcept override { return "unigram"; }

 private:
  static constexpr unsigned kFew = 4;
  struct Node {
    TokenId token = -1;
    std::uint32_t first = 0;                  // child; the others follow it
    std::uint32_t count = 0;                  // of children
    std::array<unsigned char, kFew> bytes{};  // that lead to them, if they are few
    std::uint32_t row = 0;                    // of ranks_, if they are more
  };
  const Node* child(const Node& node, unsigned char byte) const noexcept;
  void push_unknown(std::string_view text, std::vector<TokenId>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<double> scores_;
  TokenId unknown_;
  double unknown_score_;
  bool byte_fallback_;
  std::array<TokenId, 256> byte_ids_;
  std::vector<Node> nodes_;  // a trie over the pieces' bytes
  std::vector<std::array<std::uint8_t, 256>>
      ranks_;  // by byte: which child, from 1 (UTF-8 has no 255); 0: none
};

}  // namespace metal_candle
