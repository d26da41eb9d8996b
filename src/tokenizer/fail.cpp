#include "tokenizer/fail.h"

#include "tokenizer/unicode.h"

namespace metal_candle {

void fail_tokenizer(ErrorCode code, const std::string& message) {
  constexpr std::size_t kMost = 500;
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string line;
  for (const char c : message) {
    if (line.size() >= kMost) break;
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      line.append({'\\', 'x', kHex[byte >> 4], kHex[byte & 15]});
    } else {
      line += c;
    }
  }
  if (line.size() >= kMost) {
    line.resize(line.size() - incomplete_utf8_tail(line));
    line += "...";
  }
  throw Error(code, replace_invalid_utf8(line));
}

}  // namespace metal_candle
