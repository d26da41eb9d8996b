#include "embeddings/token_frame.h"

#include <algorithm>
#include <string>

#include "metal_candle/error.h"

namespace metal_candle {

TokenFrame::TokenFrame(const Tokenizer& tokenizer, std::size_t max_length, std::uint32_t pair_separators)
    : max_length_(max_length), pair_separators_(pair_separators) {
  const std::vector<TokenId> bare = tokenizer.encode("a", {.add_special = false});
  const std::vector<TokenId> framed = tokenizer.encode("a");
  const auto middle = std::search(framed.begin(), framed.end(), bare.begin(), bare.end());
  before_.assign(framed.begin(), middle);
  after_.assign(middle + static_cast<std::ptrdiff_t>(bare.size()), framed.end());
  const std::size_t special = before_.size() + (1 + pair_separators_) * after_.size();
  if (max_length_ <= special)
    throw Error(ErrorCode::invalid_argument, "a maximum of " + std::to_string(max_length_) +
                                                 " tokens leaves no room for text beside the special ones");
}

EncoderInput TokenFrame::single(std::vector<TokenId> ids, TruncationSide side) const {
  const std::size_t room = max_length_ - before_.size() - after_.size();
  if (ids.size() > room) {
    const auto dropped = static_cast<std::ptrdiff_t>(ids.size() - room);
    side == TruncationSide::right ? ids.erase(ids.end() - dropped, ids.end())
                                  : ids.erase(ids.begin(), ids.begin() + dropped);
  }
  ids.insert(ids.begin(), before_.begin(), before_.end());
  ids.insert(ids.end(), after_.begin(), after_.end());
  return {std::move(ids), {}};
}

EncoderInput TokenFrame::pair(std::vector<TokenId> first, std::vector<TokenId> second, bool types) const {
  const std::size_t room = max_length_ - before_.size() - (1 + pair_separators_) * after_.size();
  if (first.size() + second.size() > room) {
    // The shorter keeps half the room at least; the odd token is the longer's, or the second's of two equals.
    const std::size_t half = room / 2, rest = room - half;
    std::vector<TokenId>& shorter = first.size() > second.size() ? second : first;
    std::vector<TokenId>& longer = first.size() > second.size() ? first : second;
    const bool both = shorter.size() > half;
    longer.resize(both ? rest : room - shorter.size());
    if (both) shorter.resize(half);
  }
  EncoderInput out{before_, {}};
  const auto add = [&](const std::vector<TokenId>& ids) {
    out.tokens.insert(out.tokens.end(), ids.begin(), ids.end());
  };
  add(first);
  for (std::uint32_t i = 0; i < pair_separators_; ++i) add(after_);
  if (types) out.types.assign(out.tokens.size(), 0);
  add(second);
  add(after_);
  if (types) out.types.resize(out.tokens.size(), 1);
  return out;
}

}  // namespace metal_candle
