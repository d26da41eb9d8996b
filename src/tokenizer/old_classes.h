// What parts of Python's tokenizers say of a character where they differ from Unicode 16.0 (unicode.h): they
// stand on libraries that know Unicode 8.0 (BertNormalizer, punctuation) or 9.0 (normal forms, StripAccents).
#pragma once

#include <cstdint>

#include "tokenizer/unicode.h"

namespace metal_candle {

namespace old_class_bits {
/// inert: no normal form changes the character, moves it or joins it to a neighbour.
/// word: \w matches it. The others as in char_class_bits.
inline constexpr std::uint8_t inert = 1, word = 2, punctuation = 8, mark = 32, nonspacing = 64, other = 128;
}  // namespace old_class_bits

namespace unicode_detail {
const Pages& old_pages();
}  // namespace unicode_detail

/// Like CharClasses: make one outside a loop.
class OldCharClasses {
 public:
  OldCharClasses() : pages_(unicode_detail::old_pages()) {}
  /// Bits of a code point; 0 beyond U+10FFFF.
  std::uint8_t operator()(char32_t code) const noexcept {
    if (code > 0x10FFFF) return 0;
    return static_cast<std::uint8_t>(pages_.classes[pages_.page[code >> 8] * 256u + (code & 0xFF)]);
  }

 private:
  const unicode_detail::Pages& pages_;
};

}  // namespace metal_candle
