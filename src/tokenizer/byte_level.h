// The byte-level alphabet of GPT-2: every byte is written as one printable character, so that any
// byte sequence is text. Printable Latin-1 bytes stand for themselves, the other 68 for U+0100 onwards.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace metal_candle {

/// UTF-8 of the character that stands for a byte: 1 or 2 bytes.
struct ByteLevelChar {
  char utf8[2];
  std::uint8_t length;
};

/// The characters of all 256 bytes.
extern const std::array<ByteLevelChar, 256> kByteLevelChars;

/// The byte that a character stands for, or -1.
int byte_of_level_char(char32_t code) noexcept;

/// `bytes` written in the alphabet.
void append_byte_level(std::string_view bytes, std::string& out);

/// The bytes that a piece stands for. A piece with any character outside the alphabet stands for itself.
void append_byte_level_bytes(std::string_view piece, std::string& out);

}  // namespace metal_candle
