// Tokens that are found in the text before the model sees it: special tokens and those a user added.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// One entry of tokenizer.json's "added_tokens"; the field names are its own.
struct AddedToken {
  std::string content;
  TokenId id = 0;
  bool special = false;
  bool normalized = false;   ///< Searched in the normalized text, else in the raw text.
  bool lstrip = false;       ///< Swallows the white space before it.
  bool rstrip = false;       ///< Swallows the white space after it.
  bool single_word = false;  ///< Only between non-word characters.
};

/// A piece of text, or (id >= 0) an added token found there.
struct TextSpan {
  std::size_t begin, end;
  TokenId id;
};

/// Finds tokens in a text, leftmost first, the longest of those that start there.
/// Immutable; any thread may search.
class AddedTokenFinder {
 public:
  AddedTokenFinder();
  /// Empty contents are ignored; of equal contents the last counts.
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);
  ~AddedTokenFinder();
  AddedTokenFinder(AddedTokenFinder&&) noexcept;
  AddedTokenFinder& operator=(AddedTokenFinder&&) noexcept;

  bool empty() const noexcept { return tokens_.empty(); }
  /// Cuts `text` (valid UTF-8) into spans that cover it; those of added tokens may overlap in white space.
  /// Without `parse_special`, special tokens are text.
  void split(std::string_view text, bool parse_special, std::vector<TextSpan>& out) const;

 private:
  struct Trie;
  std::vector<AddedToken> tokens_;
  std::unique_ptr<Trie> trie_;
};

}  // namespace metal_candle
