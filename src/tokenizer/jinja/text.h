// Python's str by code points on UTF-8 bytes: lengths, slices, classes and cases of characters, splitting.
// Bytes that are not UTF-8 count as one character each and pass through unchanged. No values, no limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle::jinja::text {

struct Point {
  char32_t value;
  std::size_t size;  ///< bytes
};

/// The character at byte `at`, which must be inside `s`.
Point decode(std::string_view s, std::size_t at) noexcept;
void append(std::string& out, char32_t point);
/// Characters in `s`.
std::size_t length(std::string_view s) noexcept;
/// Byte offset of character `index`; s.size() if there are fewer.
std::size_t offset(std::string_view s, std::size_t index) noexcept;
std::vector<std::string_view> characters(std::string_view s);

bool is_space(char32_t c) noexcept;
bool is_alpha(char32_t c) noexcept;
bool is_decimal(char32_t c) noexcept;
bool is_digit(char32_t c) noexcept;
bool is_upper(char32_t c) noexcept;
bool is_lower(char32_t c) noexcept;
bool is_title(char32_t c) noexcept;
/// Printed as it is by Python's repr().
bool is_printable(char32_t c) noexcept;
/// May be part of a name; decimal digits too.
bool is_name(char32_t c) noexcept;

std::string lower(std::string_view s);
std::string upper(std::string_view s);
std::string casefold(std::string_view s);
std::string swapcase(std::string_view s);
/// First character in title case, the rest lower.
std::string capitalize(std::string_view s);
/// Words (runs of letters) capitalized: str.title().
std::string title(std::string_view s);

std::string_view strip_left(std::string_view s) noexcept;
std::string_view strip_right(std::string_view s) noexcept;
inline std::string_view strip(std::string_view s) noexcept { return strip_left(strip_right(s)); }
/// Removes characters contained in `chars`.
std::string_view strip_left(std::string_view s, std::string_view chars);
std::string_view strip_right(std::string_view s, std::string_view chars);

/// Byte offset of `needle` at or after `from`, or npos. Linear time.
std::size_t find(std::string_view s, std::string_view needle, std::size_t from = 0) noexcept;
std::size_t rfind(std::string_view s, std::string_view needle);

/// str.split / str.rsplit; at most `limit` cuts where not negative. An empty `separator`: at white space.
std::vector<std::string_view> split(std::string_view s, std::string_view separator, std::int64_t limit);
std::vector<std::string_view> rsplit(std::string_view s, std::string_view separator, std::int64_t limit);
std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends);
/// str.replace; at most `limit` replacements where not negative. An empty `old` matches between characters.
/// Stops with a text of more than `max_size` bytes.
std::string replace(std::string_view s, std::string_view old, std::string_view replacement,
                    std::int64_t limit, std::size_t max_size);

}  // namespace metal_candle::jinja::text
