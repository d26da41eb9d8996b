#include "tokenizer/utf8_stream.h"

#include <utility>

#include "tokenizer/unicode.h"

namespace metal_candle {

std::string Utf8Stream::push(std::string_view bytes) {
  held_ += bytes;
  const std::size_t keep = incomplete_utf8_tail(held_);
  std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, held_.size() - keep));
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string Utf8Stream::flush() { return replace_invalid_utf8(std::exchange(held_, {})); }

}  // namespace metal_candle
