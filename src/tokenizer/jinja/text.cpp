#include "tokenizer/jinja/text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace metal_candle::jinja::text {
namespace {

utf8proc_category_t category(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

bool in_set(char32_t c, const std::vector<char32_t>& set) {
  return std::find(set.begin(), set.end(), c) != set.end();
}

std::vector<char32_t> points(std::string_view s) {
  std::vector<char32_t> out;
  for (std::size_t at = 0; at < s.size();) {
    const Point p = decode(s, at);
    out.push_back(p.value);
    at += p.size;
  }
  return out;
}

/// Byte offset of the character that ends at byte `end`.
std::size_t previous(std::string_view s, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && end - at < 4 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80) --at;
  return at + decode(s, at).size == end ? at : end - 1;
}

template <typename Removed>
std::string_view strip_left_if(std::string_view s, const Removed& removed) {
  std::size_t at = 0;
  while (at < s.size()) {
    const Point p = decode(s, at);
    if (!removed(p.value)) break;
    at += p.size;
  }
  return s.substr(at);
}

template <typename Removed>
std::string_view strip_right_if(std::string_view s, const Removed& removed) {
  std::size_t end = s.size();
  while (end > 0) {
    const std::size_t at = previous(s, end);
    if (!removed(decode(s, at).value)) break;
    end = at;
  }
  return s.substr(0, end);
}

std::vector<std::string_view> split_space(std::string_view s, std::int64_t limit) {
  std::vector<std::string_view> out;
  for (s = strip_left(s); !s.empty(); s = strip_left(s)) {
    if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) {
      out.push_back(s);
      break;
    }
    std::size_t end = 0;
    while (end < s.size()) {
      const Point p = decode(s, end);
      if (is_space(p.value)) break;
      end += p.size;
    }
    out.push_back(s.substr(0, end));
    s.remove_prefix(end);
  }
  return out;
}

std::vector<std::string_view> rsplit_space(std::string_view s, std::int64_t limit) {
  std::vector<std::string_view> out;
  for (s = strip_right(s); !s.empty(); s = strip_right(s)) {
    if (limit >= 0 && static_cast<std::int64_t>(out.size()) == limit) {
      out.push_back(s);
      break;
    }
    std::size_t begin = s.size();
    while (begin > 0) {
      const std::size_t at = previous(s, begin);
      if (is_space(decode(s, at).value)) break;
      begin = at;
    }
    out.push_back(s.substr(begin));
    s = s.substr(0, begin);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

Point decode(std::string_view s, std::size_t at) noexcept {
  utf8proc_int32_t point = 0;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(s.data() + at);
  const utf8proc_ssize_t size = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(s.size() - at), &point);
  // A stray byte becomes a lone surrogate, as Python's "surrogateescape" does; append() turns it back.
  if (size <= 0) return {static_cast<char32_t>(0xDC00 + bytes[0]), 1};
  return {static_cast<char32_t>(point), static_cast<std::size_t>(size)};
}

void append(std::string& out, char32_t point) {
  if (point >= 0xDC80 && point <= 0xDCFF) {
    out.push_back(static_cast<char>(point - 0xDC00));
    return;
  }
  std::array<utf8proc_uint8_t, 4> bytes{};
  const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(point), bytes.data());
  out.append(reinterpret_cast<const char*>(bytes.data()), static_cast<std::size_t>(size));
}

std::size_t length(std::string_view s) noexcept {
  std::size_t count = 0;
  for (std::size_t at = 0; at < s.size(); at += decode(s, at).size) ++count;
  return count;
}

std::size_t offset(std::string_view s, std::size_t index) noexcept {
  std::size_t at = 0;
  for (; index > 0 && at < s.size(); --index) at += decode(s, at).size;
  return at;
}

std::vector<std::string_view> characters(std::string_view s) {
  std::vector<std::string_view> out;
  for (std::size_t at = 0; at < s.size();) {
    const std::size_t size = decode(s, at).size;
    out.push_back(s.substr(at, size));
    at += size;
  }
  return out;
}

bool is_space(char32_t c) noexcept {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
  return c == 0x85 || c == 0x2028 || c == 0x2029 || category(c) == UTF8PROC_CATEGORY_ZS;
}

bool is_alpha(char32_t c) noexcept {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
         k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t c) noexcept { return category(c) == UTF8PROC_CATEGORY_ND; }

bool is_digit(char32_t c) noexcept {
  if (c < 0x80) return c >= '0' && c <= '9';
  // Unicode's Numeric_Type=Digit: superscripts, circled and other digits that are not decimal.
  static constexpr char32_t kRanges[][2] = {
      {0xB2, 0xB3},     {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},   {0x2070, 0x2070},
      {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247C},   {0x2488, 0x2490},
      {0x24EA, 0x24EA}, {0x24F5, 0x24FD},   {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},
      {0x278A, 0x2792}, {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};
  return is_decimal(c) || std::any_of(std::begin(kRanges), std::end(kRanges),
                                      [&](const auto& range) { return c >= range[0] && c <= range[1]; });
}

bool is_upper(char32_t c) noexcept { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0; }
bool is_lower(char32_t c) noexcept { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0; }
bool is_title(char32_t c) noexcept { return category(c) == UTF8PROC_CATEGORY_LT; }

bool is_printable(char32_t c) noexcept {
  if (c < 0x7F) return c >= 0x20;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
  }
}

bool is_name(char32_t c) noexcept {
  if (c < 0x80) return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
  const auto k = category(c);
  return is_alpha(c) || k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_MN ||
         k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_PC;
}

std::string_view strip_left(std::string_view s) noexcept { return strip_left_if(s, is_space); }
std::string_view strip_right(std::string_view s) noexcept { return strip_right_if(s, is_space); }

std::string_view strip_left(std::string_view s, std::string_view chars) {
  return strip_left_if(s, [set = points(chars)](char32_t c) { return in_set(c, set); });
}

std::string_view strip_right(std::string_view s, std::string_view chars) {
  return strip_right_if(s, [set = points(chars)](char32_t c) { return in_set(c, set); });
}

std::size_t find(std::string_view s, std::string_view needle, std::size_t from) noexcept {
  if (from > s.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // memmem is linear for any needle; string_view::find is quadratic for hostile ones.
  const void* hit = memmem(s.data() + from, s.size() - from, needle.data(), needle.size());
  return hit == nullptr ? std::string_view::npos
                        : static_cast<std::size_t>(static_cast<const char*>(hit) - s.data());
}

std::size_t rfind(std::string_view s, std::string_view needle) {
  const std::string reversed(s.rbegin(), s.rend()), reversed_needle(needle.rbegin(), needle.rend());
  const std::size_t at = find(reversed, reversed_needle);
  return at == std::string_view::npos ? at : s.size() - at - needle.size();
}

std::vector<std::string_view> split(std::string_view s, std::string_view separator, std::int64_t limit) {
  if (separator.empty()) return split_space(s, limit);
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  while (limit < 0 || static_cast<std::int64_t>(out.size()) < limit) {
    const std::size_t at = find(s, separator, begin);
    if (at == std::string_view::npos) break;
    out.push_back(s.substr(begin, at - begin));
    begin = at + separator.size();
  }
  out.push_back(s.substr(begin));
  return out;
}

std::vector<std::string_view> rsplit(std::string_view s, std::string_view separator, std::int64_t limit) {
  if (separator.empty()) return rsplit_space(s, limit);
  // Cut the reversed text, so that overlapping separators are found from the right.
  const std::string reversed(s.rbegin(), s.rend()), reversed_separator(separator.rbegin(), separator.rend());
  std::vector<std::string_view> out;
  std::size_t end = s.size();
  for (const std::string_view part : split(reversed, reversed_separator, limit)) {
    out.push_back(s.substr(end - part.size(), part.size()));
    end -= std::min(end, part.size() + separator.size());
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends) {
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < s.size();) {
    const Point p = decode(s, at);
    const std::size_t line_end = at;
    at += p.size;
    const bool ends = (p.value >= 10 && p.value <= 13) || (p.value >= 0x1C && p.value <= 0x1E) ||
                      p.value == 0x85 || p.value == 0x2028 || p.value == 0x2029;
    if (!ends) continue;
    if (p.value == '\r' && at < s.size() && s[at] == '\n') ++at;
    out.push_back(s.substr(begin, (keep_ends ? at : line_end) - begin));
    begin = at;
  }
  if (begin < s.size()) out.push_back(s.substr(begin));
  return out;
}

std::string replace(std::string_view s, std::string_view old, std::string_view replacement,
                    std::int64_t limit, std::size_t max_size) {
  std::string out;
  std::size_t begin = 0;
  for (std::int64_t count = 0; (limit < 0 || count < limit) && out.size() <= max_size; ++count) {
    const std::size_t at = find(s, old, begin);
    if (at == std::string_view::npos) break;
    out.append(s.substr(begin, at - begin)).append(replacement);
    begin = at + old.size();
    if (!old.empty()) continue;
    if (begin == s.size()) return out;
    const std::size_t size = decode(s, begin).size;
    out.append(s.substr(begin, size));
    begin += size;
  }
  return out.append(s.substr(begin));
}

}  // namespace metal_candle::jinja::text
