#include "tokenizer/byte_level.h"

#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

constexpr std::array<ByteLevelChar, 256> make_chars() {
  std::array<ByteLevelChar, 256> chars{};
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const unsigned code = stands_for_itself(byte) ? byte : next++;
    if (code < 0x80) {
      chars[byte] = {{static_cast<char>(code), 0}, 1};
    } else {
      chars[byte] = {{static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))}, 2};
    }
  }
  return chars;
}

constexpr std::array<std::int16_t, 0x144> make_bytes() {
  std::array<std::int16_t, 0x144> bytes{};
  for (auto& b : bytes) b = -1;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[stands_for_itself(byte) ? byte : next++] = static_cast<std::int16_t>(byte);
  }
  return bytes;
}

constexpr auto kBytes = make_bytes();

}  // namespace

const std::array<ByteLevelChar, 256> kByteLevelChars = make_chars();

int byte_of_level_char(char32_t code) noexcept { return code < kBytes.size() ? kBytes[code] : -1; }

void append_byte_level(std::string_view bytes, std::string& out) {
  for (const char c : bytes) {
    const ByteLevelChar& mapped = kByteLevelChars[static_cast<unsigned char>(c)];
    out.append(mapped.utf8, mapped.length);
  }
}

void append_byte_level_bytes(std::string_view piece, std::string& out) {
  const std::size_t start = out.size();
  for (std::size_t at = 0; at < piece.size();) {
    const Utf8Char c = read_utf8(piece, at);
    const int byte = c.valid ? byte_of_level_char(c.code) : -1;
    if (byte < 0) {
      out.resize(start);
      out.append(piece);
      return;
    }
    out.push_back(static_cast<char>(byte));
    at += c.length;
  }
}

}  // namespace metal_candle
