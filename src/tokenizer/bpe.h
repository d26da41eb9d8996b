// Byte-pair encoding: merges neighbouring symbols, best rank first (Sennrich et al., 2016).
// Not the splitting into pre-tokens (pre_tokenizer.h).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/merge_borders.h"
#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace metal_candle {

struct BpeOptions {
  bool byte_level = false;     ///< Symbols are bytes, spelled in the byte-level alphabet; else characters.
  bool byte_fallback = false;  ///< An unknown character becomes its bytes' <0xXX> tokens.
  bool fuse_unknown = false;   ///< Neighbouring unknown characters become one unknown token.
  bool ignore_merges = false;  ///< A pre-token that is a token is that token, whatever the merges say.
  TokenId unknown = -1;        ///< -1: unknown characters vanish.
  std::string continuing_prefix = {};  ///< Before every character but the first.
  std::string end_suffix = {};         ///< After the last character.
};

/// One rule: ids left and right, side by side, become `merged`. The lowest rank goes first.
struct BpeMerge {
  TokenId left, right, merged;
  std::uint32_t rank;
};

/// O(n log n) in the length of a pre-token; short ones take a quadratic loop that is faster there.
class Bpe final : public TokenModel {
 public:
  Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const BpeMerge> merges, BpeOptions options);

  void encode(std::string_view piece, std::vector<TokenId>& out) const override;
  std::string_view kind() const noexcept override { return "bpe"; }

 private:
  struct Rule {
    std::uint64_t pair = ~std::uint64_t{0};  // left << 32 | right
    std::uint32_t rank = kNoRank;
    TokenId merged = -1;
  };
  static constexpr std::uint32_t kNoRank = ~std::uint32_t{0};
  struct LongWord;

  const Rule& rule(TokenId left, TokenId right) const noexcept;
  /// Whether parts of a text between which no merge reaches give the same tokens alone.
  bool may_cut(std::span<const BpeMerge> merges) const;
  void encode_word(std::string_view piece, std::vector<TokenId>& out) const;
  TokenId whole(std::string_view piece) const;
  void character_symbols(std::string_view piece, std::vector<TokenId>& out) const;
  /// The symbols of a piece, if each is in the vocabulary and needs no affix; else 0. The common case. `ids`
  /// has room for piece.size().
  std::size_t known_symbols(std::string_view piece, TokenId* ids) const;
  void merge(std::string_view piece, std::vector<TokenId>& out) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  BpeOptions options_;
  std::vector<Rule> rules_;  // open addressing, a power of two
  std::optional<MergeBorders> borders_;
  std::array<TokenId, 256> byte_ids_;
  std::array<TokenId, 256> ascii_ids_;  ///< of the characters themselves
  TokenId word_start_id_ = -1;
  std::array<TokenId, 256> fallback_ids_;
  // Whether the merges lead from a token's text to that token: 0 not tried, 1 yes, 2 no. Filled as
  // words come by; every thread computes the same value, so relaxed order is enough.
  std::unique_ptr<std::atomic<std::uint8_t>[]> reachable_;
};

/// The rule of this rank for pieces left and right of `vocabulary`; empty if one of the three is not in it.
/// `prefix`: the continuing prefix to drop from right. `guess`: the merged id, if that is what it turns out
/// to be; it saves a look-up, for most vocabularies number their merges in order.
std::optional<BpeMerge> find_merge(const Vocabulary& vocabulary, std::string_view left,
                                   std::string_view right, std::size_t rank, std::string_view prefix = {},
                                   TokenId guess = -1);

}  // namespace metal_candle
