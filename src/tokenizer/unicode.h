// UTF-8 and character classes, as Python's tokenizers sees them (Unicode 16.0).
// Not normalisation (normalizer.h) and not the byte-level alphabet (byte_level.h).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace metal_candle {

inline constexpr char32_t kReplacement = 0xFFFD;

/// One step of reading UTF-8. A bad sequence is U+FFFD over its maximal subpart (Unicode, section 3.9),
/// which is what Python's errors="replace" and Rust's from_utf8_lossy do.
struct Utf8Char {
  char32_t code;
  std::uint32_t length;  ///< Bytes read, at least 1.
  bool valid;
};

/// read_utf8() where text[at] is not ASCII.
Utf8Char read_utf8_multibyte(std::string_view text, std::size_t at) noexcept;

/// Reads the character at text[at]; requires at < text.size().
inline Utf8Char read_utf8(std::string_view text, std::size_t at) noexcept {
  const auto lead = static_cast<unsigned char>(text[at]);
  return lead < 0x80 ? Utf8Char{lead, 1, true} : read_utf8_multibyte(text, at);
}

/// Appends a code point (a Unicode scalar value) as UTF-8.
void append_utf8(char32_t code, std::string& out);

/// Index of the first byte that is not part of valid UTF-8; text.size() if all is.
std::size_t find_invalid_utf8(std::string_view text) noexcept;

/// `text` with every bad sequence replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view text);

/// Length of an incomplete but so far valid character at the end of `text` (0 to 3 bytes).
std::size_t incomplete_utf8_tail(std::string_view text) noexcept;

/// Bits of char_class().
namespace char_class_bits {
inline constexpr std::uint8_t letter = 1, number = 2, space = 4, punctuation = 8, symbol = 16, mark = 32,
                              nonspacing = 64, other = 128;  // other: Cc, Cf, Co
}

namespace unicode_detail {
struct Pages {
  std::array<std::uint16_t, 0x110000 / 256> page;  // of each block of 256 code points
  std::string classes;                             // pages of 256 bytes
};
const Pages& pages();
}  // namespace unicode_detail

/// Looks up classes; make one outside a loop (it holds a pointer to the process-wide table).
class CharClasses {
 public:
  CharClasses() : pages_(unicode_detail::pages()) {}
  /// Bits of a code point; 0 beyond U+10FFFF.
  std::uint8_t operator()(char32_t code) const noexcept {
    if (code > 0x10FFFF) return 0;
    return static_cast<std::uint8_t>(pages_.classes[pages_.page[code >> 8] * 256u + (code & 0xFF)]);
  }

 private:
  const unicode_detail::Pages& pages_;
};

/// \w as Unicode defines it: alphabetic characters, marks, decimal digits, connectors and joiners.
bool is_word_character(const CharClasses& classes, char32_t code) noexcept;

}  // namespace metal_candle
