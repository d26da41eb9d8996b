#include "io/quote.h"

namespace metal_candle {
namespace {

void append_escaped(std::string& out, std::string_view text, unsigned char last_plain) {
  constexpr std::string_view kHex = "0123456789abcdef";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7f && byte <= last_plain) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
}

}  // namespace

std::string quote(std::string_view text) {
  constexpr std::size_t kLongest = 120;
  std::string out = "\"";
  append_escaped(out, text.substr(0, kLongest), 0x7e);
  out += text.size() > kLongest ? "...\"" : "\"";
  return out;
}

std::string quote_path(const std::filesystem::path& path) {
  std::string out;
  append_escaped(out, path.native(), 0xff);  // users name files in their own script
  return out;
}

}  // namespace metal_candle
