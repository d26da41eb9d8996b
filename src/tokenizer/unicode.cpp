#include "tokenizer/unicode.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "tokenizer/old_classes.h"

namespace metal_candle {
namespace {

constexpr std::uint32_t kRuns[] = {
#include "tokenizer/unicode_ranges.inc"
};
constexpr std::uint32_t kOldRuns[] = {
#include "tokenizer/old_ranges.inc"
};

bool continues(unsigned char byte, unsigned char low = 0x80, unsigned char high = 0xBF) {
  return byte >= low && byte <= high;
}

}  // namespace

Utf8Char read_utf8_multibyte(std::string_view text, std::size_t at) noexcept {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data()) + at;
  const std::size_t left = text.size() - at;
  const unsigned char lead = p[0];
  unsigned need = 0;
  unsigned char low = 0x80, high = 0xBF;  // range of the second byte: no overlongs, surrogates, > U+10FFFF
  if (lead >= 0xC2 && lead <= 0xDF) {
    need = 1;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    need = 2;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    need = 3;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
  } else {
    return {kReplacement, 1, false};
  }
  char32_t code = lead & (0x3Fu >> need);
  for (unsigned i = 1; i <= need; ++i) {
    if (i >= left || !continues(p[i], low, high)) return {kReplacement, i, false};
    code = code << 6 | (p[i] & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {code, need + 1, true};
}

void append_utf8(char32_t code, std::string& out) {
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
    return;
  }
  char bytes[4];
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  for (int i = more; i > 0; --i, code >>= 6) bytes[i] = static_cast<char>(0x80 | (code & 0x3F));
  constexpr unsigned char kLead[] = {0, 0xC0, 0xE0, 0xF0};
  bytes[0] = static_cast<char>(kLead[more] | code);
  out.append(bytes, static_cast<std::size_t>(more) + 1);
}

std::size_t find_invalid_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    if (text.size() - at >= 8) {
      std::uint64_t eight;
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    const Utf8Char c = read_utf8(text, at);
    if (!c.valid) return at;
    at += c.length;
  }
  return at;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (;;) {
    const std::size_t good = find_invalid_utf8(text);
    out.append(text.substr(0, good));
    if (good == text.size()) return out;
    append_utf8(kReplacement, out);
    text.remove_prefix(good + read_utf8(text, good).length);
  }
}

std::size_t incomplete_utf8_tail(std::string_view text) noexcept {
  const std::size_t most = std::min<std::size_t>(text.size(), 3);
  for (std::size_t n = 1; n <= most; ++n) {
    const auto byte = static_cast<unsigned char>(text[text.size() - n]);
    if (continues(byte)) continue;
    if (byte < 0xC2 || byte > 0xF4) return 0;
    const std::size_t whole = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    // A maximal subpart that reaches the end of the text may still become a character.
    return n < whole && read_utf8(text, text.size() - n).length == n ? n : 0;
  }
  return 0;
}

bool is_word_character(const CharClasses& classes, char32_t code) noexcept {
  using namespace char_class_bits;
  const std::uint8_t bits = classes(code);
  if (bits & (letter | mark)) return true;
  // Fractions, superscripts and the like are numbers, but no digits.
  if (bits & number) return OldCharClasses()(code) & old_class_bits::word;
  const bool connector = code == '_' || code == 0x203F || code == 0x2040 || code == 0x2054 ||
                         code == 0xFE33 || code == 0xFE34 || (code >= 0xFE4D && code <= 0xFE4F) ||
                         code == 0xFF3F;
  const bool joiner = code == 0x200C || code == 0x200D;
  const bool enclosed_letter = (code >= 0x24B6 && code <= 0x24E9) || (code >= 0x1F130 && code <= 0x1F149) ||
                               (code >= 0x1F150 && code <= 0x1F169) || (code >= 0x1F170 && code <= 0x1F189);
  return connector || joiner || enclosed_letter;
}

namespace unicode_detail {

/// From runs of (length << 8 | classes) that cover every code point.
static Pages build(std::span<const std::uint32_t> runs) {
  Pages p{};
  std::array<int, 256> uniform;  // page that holds one class throughout
  uniform.fill(-1);
  std::size_t run = 0;
  std::uint32_t left = runs[0] >> 8;
  for (auto& page : p.page) {
    const auto bits = static_cast<std::uint8_t>(runs[run]);
    if (left >= 256 && uniform[bits] >= 0) {
      page = static_cast<std::uint16_t>(uniform[bits]);
      left -= 256;
    } else {
      page = static_cast<std::uint16_t>(p.classes.size() / 256);
      if (left >= 256) uniform[bits] = page;
      for (std::uint32_t filled = 0; filled < 256;) {
        const std::uint32_t take = std::min(left, 256 - filled);
        p.classes.append(take, static_cast<char>(runs[run]));
        filled += take;
        left -= take;
        if (left == 0 && filled < 256) left = runs[++run] >> 8;
      }
    }
    if (left == 0 && run + 1 < runs.size()) left = runs[++run] >> 8;
  }
  return p;
}

const Pages& pages() {
  static const Pages built = build(kRuns);
  return built;
}

const Pages& old_pages() {
  static const Pages built = build(kOldRuns);
  return built;
}

}  // namespace unicode_detail
}  // namespace metal_candle
