// From a text's token ids to what an encoder reads: cut to its length, with the special tokens around it.
#pragma once

#include <cstddef>
#include <vector>

#include "embeddings/ragged_runner.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

enum class TruncationSide { right, left };  ///< which end of a text that is too long is dropped

/// Immutable; thread-safe.
class TokenFrame {
 public:
  /// Learns the special tokens from what `tokenizer` puts around a text. max_length includes them.
  /// Throws Error(invalid_argument) if they alone fill it.
  TokenFrame(const Tokenizer& tokenizer, std::size_t max_length, std::uint32_t pair_separators);

  std::size_t prefix_size() const noexcept { return before_.size(); }
  EncoderInput single(std::vector<TokenId> ids, TruncationSide side) const;

  /// Two texts read as one: the longer gives way first (tokenizers' "longest_first"). The second and its
  /// end are segment 1 if `types`.
  EncoderInput pair(std::vector<TokenId> first, std::vector<TokenId> second, bool types) const;

 private:
  std::vector<TokenId> before_, after_;
  std::size_t max_length_;
  std::uint32_t pair_separators_;
};

}  // namespace metal_candle
