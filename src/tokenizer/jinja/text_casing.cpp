// Case mapping of whole strings, with the characters that become two or three (Unicode's SpecialCasing.txt).
#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja::text {
namespace {

struct LongUpper {
  char32_t point;
  char32_t upper[3];
};

// Sorted by point; unused places are 0.
constexpr LongUpper kLongUpper[] = {{0xDF, {0x53, 0x53}},
                                    {0x149, {0x2BC, 0x4E}},
                                    {0x1F0, {0x4A, 0x30C}},
                                    {0x390, {0x399, 0x308, 0x301}},
                                    {0x3B0, {0x3A5, 0x308, 0x301}},
                                    {0x587, {0x535, 0x552}},
                                    {0x1E96, {0x48, 0x331}},
                                    {0x1E97, {0x54, 0x308}},
                                    {0x1E98, {0x57, 0x30A}},
                                    {0x1E99, {0x59, 0x30A}},
                                    {0x1E9A, {0x41, 0x2BE}},
                                    {0x1F50, {0x3A5, 0x313}},
                                    {0x1F52, {0x3A5, 0x313, 0x300}},
                                    {0x1F54, {0x3A5, 0x313, 0x301}},
                                    {0x1F56, {0x3A5, 0x313, 0x342}},
                                    {0x1F80, {0x1F08, 0x399}},
                                    {0x1F81, {0x1F09, 0x399}},
                                    {0x1F82, {0x1F0A, 0x399}},
                                    {0x1F83, {0x1F0B, 0x399}},
                                    {0x1F84, {0x1F0C, 0x399}},
                                    {0x1F85, {0x1F0D, 0x399}},
                                    {0x1F86, {0x1F0E, 0x399}},
                                    {0x1F87, {0x1F0F, 0x399}},
                                    {0x1F88, {0x1F08, 0x399}},
                                    {0x1F89, {0x1F09, 0x399}},
                                    {0x1F8A, {0x1F0A, 0x399}},
                                    {0x1F8B, {0x1F0B, 0x399}},
                                    {0x1F8C, {0x1F0C, 0x399}},
                                    {0x1F8D, {0x1F0D, 0x399}},
                                    {0x1F8E, {0x1F0E, 0x399}},
                                    {0x1F8F, {0x1F0F, 0x399}},
                                    {0x1F90, {0x1F28, 0x399}},
                                    {0x1F91, {0x1F29, 0x399}},
                                    {0x1F92, {0x1F2A, 0x399}},
                                    {0x1F93, {0x1F2B, 0x399}},
                                    {0x1F94, {0x1F2C, 0x399}},
                                    {0x1F95, {0x1F2D, 0x399}},
                                    {0x1F96, {0x1F2E, 0x399}},
                                    {0x1F97, {0x1F2F, 0x399}},
                                    {0x1F98, {0x1F28, 0x399}},
                                    {0x1F99, {0x1F29, 0x399}},
                                    {0x1F9A, {0x1F2A, 0x399}},
                                    {0x1F9B, {0x1F2B, 0x399}},
                                    {0x1F9C, {0x1F2C, 0x399}},
                                    {0x1F9D, {0x1F2D, 0x399}},
                                    {0x1F9E, {0x1F2E, 0x399}},
                                    {0x1F9F, {0x1F2F, 0x399}},
                                    {0x1FA0, {0x1F68, 0x399}},
                                    {0x1FA1, {0x1F69, 0x399}},
                                    {0x1FA2, {0x1F6A, 0x399}},
                                    {0x1FA3, {0x1F6B, 0x399}},
                                    {0x1FA4, {0x1F6C, 0x399}},
                                    {0x1FA5, {0x1F6D, 0x399}},
                                    {0x1FA6, {0x1F6E, 0x399}},
                                    {0x1FA7, {0x1F6F, 0x399}},
                                    {0x1FA8, {0x1F68, 0x399}},
                                    {0x1FA9, {0x1F69, 0x399}},
                                    {0x1FAA, {0x1F6A, 0x399}},
                                    {0x1FAB, {0x1F6B, 0x399}},
                                    {0x1FAC, {0x1F6C, 0x399}},
                                    {0x1FAD, {0x1F6D, 0x399}},
                                    {0x1FAE, {0x1F6E, 0x399}},
                                    {0x1FAF, {0x1F6F, 0x399}},
                                    {0x1FB2, {0x1FBA, 0x399}},
                                    {0x1FB3, {0x391, 0x399}},
                                    {0x1FB4, {0x386, 0x399}},
                                    {0x1FB6, {0x391, 0x342}},
                                    {0x1FB7, {0x391, 0x342, 0x399}},
                                    {0x1FBC, {0x391, 0x399}},
                                    {0x1FC2, {0x1FCA, 0x399}},
                                    {0x1FC3, {0x397, 0x399}},
                                    {0x1FC4, {0x389, 0x399}},
                                    {0x1FC6, {0x397, 0x342}},
                                    {0x1FC7, {0x397, 0x342, 0x399}},
                                    {0x1FCC, {0x397, 0x399}},
                                    {0x1FD2, {0x399, 0x308, 0x300}},
                                    {0x1FD3, {0x399, 0x308, 0x301}},
                                    {0x1FD6, {0x399, 0x342}},
                                    {0x1FD7, {0x399, 0x308, 0x342}},
                                    {0x1FE2, {0x3A5, 0x308, 0x300}},
                                    {0x1FE3, {0x3A5, 0x308, 0x301}},
                                    {0x1FE4, {0x3A1, 0x313}},
                                    {0x1FE6, {0x3A5, 0x342}},
                                    {0x1FE7, {0x3A5, 0x308, 0x342}},
                                    {0x1FF2, {0x1FFA, 0x399}},
                                    {0x1FF3, {0x3A9, 0x399}},
                                    {0x1FF4, {0x38F, 0x399}},
                                    {0x1FF6, {0x3A9, 0x342}},
                                    {0x1FF7, {0x3A9, 0x342, 0x399}},
                                    {0x1FFC, {0x3A9, 0x399}},
                                    {0xFB00, {0x46, 0x46}},
                                    {0xFB01, {0x46, 0x49}},
                                    {0xFB02, {0x46, 0x4C}},
                                    {0xFB03, {0x46, 0x46, 0x49}},
                                    {0xFB04, {0x46, 0x46, 0x4C}},
                                    {0xFB05, {0x53, 0x54}},
                                    {0xFB06, {0x53, 0x54}},
                                    {0xFB13, {0x544, 0x546}},
                                    {0xFB14, {0x544, 0x535}},
                                    {0xFB15, {0x544, 0x53B}},
                                    {0xFB16, {0x54E, 0x546}},
                                    {0xFB17, {0x544, 0x53D}}};

const LongUpper* long_upper(char32_t c) {
  const auto* at = std::lower_bound(std::begin(kLongUpper), std::end(kLongUpper), c,
                                    [](const LongUpper& row, char32_t point) { return row.point < point; });
  return at != std::end(kLongUpper) && at->point == c ? at : nullptr;
}

bool is_byte(char32_t c) { return c >= 0xDC80 && c <= 0xDCFF; }  // decode()'s mark of a stray byte

char32_t simple(char32_t c, utf8proc_int32_t (*map)(utf8proc_int32_t)) {
  return is_byte(c) ? c : static_cast<char32_t>(map(static_cast<utf8proc_int32_t>(c)));
}

void append_upper(std::string& out, char32_t c) {
  const LongUpper* row = long_upper(c);
  if (row == nullptr) return append(out, simple(c, utf8proc_toupper));
  for (const char32_t part : row->upper) {
    if (part != 0) append(out, part);
  }
}

void append_title(std::string& out, char32_t c) {
  const char32_t one = simple(c, utf8proc_totitle);
  const LongUpper* row = long_upper(c);
  // utf8proc gives sharp s a capital form that Unicode's default mapping does not use.
  if (row == nullptr || (one != c && c != 0xDF)) return append(out, one);
  append(out, row->upper[0]);
  for (const char32_t part : {row->upper[1], row->upper[2]}) {
    // U+0149 keeps its second capital, since an apostrophe comes first; an iota stays below its letter.
    if (part == 0) continue;
    append(out, c == 0x149 ? part : part == 0x399 ? 0x345 : simple(part, utf8proc_tolower));
  }
}

bool is_cased(char32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }

// Characters that a word's end looks through (Unicode's Case_Ignorable, by category).
bool is_case_ignorable(char32_t c) {
  if (c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x2019) return true;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: return false;
  }
}

char32_t point_before(std::string_view s, std::size_t& at) {
  --at;
  while (at > 0 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80) --at;
  return decode(s, at).value;
}

// A capital sigma that ends a word becomes the final form.
bool is_final_sigma(std::string_view s, std::size_t at) {
  constexpr int kReach = 32;  // ignorable characters looked through; keeps long texts linear
  bool letter_before = false;
  std::size_t i = at;
  for (int n = 0; i > 0 && n < kReach; ++n) {
    const char32_t c = point_before(s, i);
    if (is_case_ignorable(c)) continue;
    letter_before = is_cased(c);
    break;
  }
  if (!letter_before) return false;
  i = at + 2;
  for (int n = 0; i < s.size() && n < kReach; ++n) {
    const Point p = decode(s, i);
    i += p.size;
    if (!is_case_ignorable(p.value)) return !is_cased(p.value);
  }
  return true;
}

void append_lower(std::string& out, std::string_view s, std::size_t at, char32_t c) {
  if (c == 0x130) {
    append(out, U'i');
    append(out, 0x307);
  } else if (c == 0x3A3) {
    append(out, is_final_sigma(s, at) ? 0x3C2 : 0x3C3);
  } else {
    append(out, simple(c, utf8proc_tolower));
  }
}

/// Calls body(at, point) for each character.
template <typename Body>
std::string map(std::string_view s, const Body& body) {
  std::string out;
  out.reserve(s.size());
  for (std::size_t at = 0; at < s.size();) {
    const Point p = decode(s, at);
    body(out, at, p.value);
    at += p.size;
  }
  return out;
}

}  // namespace

std::string lower(std::string_view s) {
  return map(s, [&](std::string& out, std::size_t at, char32_t c) { append_lower(out, s, at, c); });
}

std::string upper(std::string_view s) {
  return map(s, [](std::string& out, std::size_t, char32_t c) { append_upper(out, c); });
}

std::string casefold(std::string_view s) {
  return map(s, [](std::string& out, std::size_t, char32_t c) {
    utf8proc_int32_t folded[8];
    const utf8proc_ssize_t count = is_byte(c)
                                       ? 0
                                       : utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), folded, 8,
                                                                 UTF8PROC_CASEFOLD, nullptr);
    if (count <= 0) append(out, c);
    for (utf8proc_ssize_t i = 0; i < count; ++i) append(out, static_cast<char32_t>(folded[i]));
  });
}

std::string swapcase(std::string_view s) {
  return map(s, [&](std::string& out, std::size_t at, char32_t c) {
    if (is_upper(c)) {
      append_lower(out, s, at, c);
    } else if (is_lower(c)) {
      append_upper(out, c);
    } else {
      append(out, c);
    }
  });
}

std::string capitalize(std::string_view s) {
  return map(s, [&](std::string& out, std::size_t at, char32_t c) {
    at == 0 ? append_title(out, c) : append_lower(out, s, at, c);
  });
}

std::string title(std::string_view s) {
  bool inside_word = false;
  return map(s, [&](std::string& out, std::size_t at, char32_t c) {
    inside_word ? append_lower(out, s, at, c) : append_title(out, c);
    inside_word = is_cased(c);
  });
}

}  // namespace metal_candle::jinja::text
