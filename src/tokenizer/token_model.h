// The step from one pre-token to ids. Implemented by bpe, unigram and wordpiece.
#pragma once

#include <string_view>
#include <vector>

#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// Immutable after construction; encode() may be called from any thread.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of one pre-token (valid UTF-8, not empty).
  virtual void encode(std::string_view piece, std::vector<TokenId>& out) const = 0;
  /// "bpe", "unigram" or "wordpiece".
  virtual std::string_view kind() const noexcept = 0;
};

}  // namespace metal_candle
