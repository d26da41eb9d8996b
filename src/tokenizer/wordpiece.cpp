#include "tokenizer/wordpiece.h"

#include <algorithm>

#include "tokenizer/unicode.h"

namespace metal_candle {

WordPiece::WordPiece(std::shared_ptr<const Vocabulary> vocabulary, WordPieceOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

void WordPiece::encode(std::string_view piece, std::vector<TokenId>& out) const {
  const std::size_t before = out.size();
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  const auto characters =
      static_cast<std::size_t>(std::count_if(piece.begin(), piece.end(), starts_character));
  bool known = characters <= options_.longest_word;
  std::string spelled = options_.continuing_prefix;
  const std::size_t prefix = spelled.size();
  for (std::size_t begin = 0; known && begin < piece.size();) {
    // No candidate is longer than the longest piece; cut to a whole number of characters.
    const std::size_t shortest = begin > 0 ? prefix : 0;
    std::string_view candidate = piece.substr(begin);
    std::size_t most = vocabulary_->longest() > shortest ? vocabulary_->longest() - shortest : 0;
    if (most < candidate.size()) {
      while (most > 0 && !starts_character(candidate[most])) --most;
      candidate = candidate.substr(0, most);
    }
    if (begin > 0) {
      spelled.resize(prefix);
      candidate = spelled += candidate;
    }
    TokenId id = -1;
    while (candidate.size() > shortest && (id = vocabulary_->find(candidate)) < 0) {
      do candidate.remove_suffix(1);
      while (candidate.size() > shortest && !starts_character(candidate.data()[candidate.size()]));
    }
    known = id >= 0;
    out.push_back(id);
    begin += candidate.size() - shortest;
  }
  if (known) return;
  out.resize(before);
  if (options_.unknown >= 0) out.push_back(options_.unknown);
}

}  // namespace metal_candle
