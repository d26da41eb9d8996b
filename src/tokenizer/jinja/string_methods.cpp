// Methods of str.
#include <algorithm>
#include <functional>

#include "tokenizer/jinja/methods.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

using text::Point;

Value list_of(Runtime& runtime, const std::vector<std::string_view>& parts) {
  runtime.check_items(parts.size());
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(runtime.string(std::string(part)));
  return runtime.list(std::move(items));
}

template <std::string (*Map)(std::string_view)>
Value mapped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("the method", arguments, {});
  runtime.charge(self.as_string().size() * 4);
  return runtime.string(Map(self.as_string()));
}

/// True if there is a character and all satisfy the class.
template <bool (*Class)(char32_t) noexcept>
Value all_of(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("the method", arguments, {});
  const std::string& s = self.as_string();
  runtime.charge(s.size());
  for (std::size_t at = 0; at < s.size();) {
    const Point p = text::decode(s, at);
    if (!Class(p.value)) return Value::boolean(false);
    at += p.size;
  }
  return Value::boolean(!s.empty());
}

bool is_alphanumeric(char32_t c) noexcept { return text::is_alpha(c) || text::is_digit(c); }

/// True if there are cased characters and none is of the `Other` case.
template <bool (*Wanted)(char32_t) noexcept, bool (*Other)(char32_t) noexcept>
Value has_case(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("the method", arguments, {});
  const std::string& s = self.as_string();
  runtime.charge(s.size());
  bool found = false;
  for (std::size_t at = 0; at < s.size();) {
    const Point p = text::decode(s, at);
    if (Other(p.value) || text::is_title(p.value)) return Value::boolean(false);
    found |= Wanted(p.value);
    at += p.size;
  }
  return Value::boolean(found);
}

Value is_title(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("istitle", arguments, {});
  const std::string& s = self.as_string();
  runtime.charge(s.size());
  bool found = false, inside_word = false;
  for (std::size_t at = 0; at < s.size();) {
    const Point p = text::decode(s, at);
    const bool is_start = text::is_upper(p.value) || text::is_title(p.value);
    const bool is_rest = text::is_lower(p.value);
    if ((is_start && inside_word) || (is_rest && !inside_word)) return Value::boolean(false);
    inside_word = is_start || is_rest;
    found |= inside_word;
    at += p.size;
  }
  return Value::boolean(found);
}

Value is_ascii(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("isascii", arguments, {});
  runtime.charge(self.as_string().size());
  return Value::boolean(std::all_of(self.as_string().begin(), self.as_string().end(),
                                    [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

template <bool Left, bool Right>
Value stripped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("strip", arguments, {"chars"});
  std::string_view s = self.as_string();
  const std::string_view chars = bound.string(0, "");
  runtime.charge(s.size() + chars.size());
  const bool at_space = !bound.given(0) || bound[0]->is_none();
  if (!at_space && chars.size() > 256) fail_unsupported("strip() of more than 256 characters");
  if (Right) s = at_space ? text::strip_right(s) : text::strip_right(s, chars);
  if (Left) s = at_space ? text::strip_left(s) : text::strip_left(s, chars);
  return runtime.string(std::string(s));
}

template <std::vector<std::string_view> (*Cut)(std::string_view, std::string_view, std::int64_t)>
Value split(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("split", arguments, {"sep", "maxsplit"});
  runtime.charge(self.as_string().size() * 2);
  const std::string_view separator = bound.string(0, "");
  if (bound.given(0) && !bound[0]->is_none() && separator.empty()) fail("empty separator");
  return list_of(runtime, Cut(self.as_string(), separator, bound.integer(1, -1)));
}

Value split_lines(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("splitlines", arguments, {"keepends"});
  runtime.charge(self.as_string().size());
  return list_of(runtime, text::split_lines(self.as_string(), bound.truthy(0, false)));
}

template <bool FromRight>
Value partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("partition", arguments, {"sep"}, 1);
  const std::string_view s = self.as_string(), separator = bound.string(0, "");
  if (separator.empty()) fail("empty separator");
  runtime.charge(s.size() * 2);
  const std::size_t at = FromRight ? text::rfind(s, separator) : text::find(s, separator);
  std::string_view parts[] = {s, "", ""};
  if (at != std::string_view::npos) {
    parts[0] = s.substr(0, at);
    parts[1] = separator;
    parts[2] = s.substr(at + separator.size());
  } else if (FromRight) {
    std::swap(parts[0], parts[2]);
  }
  std::vector<Value> items;
  for (const std::string_view part : parts) items.push_back(runtime.string(std::string(part)));
  return runtime.tuple(std::move(items));
}

/// Python's s[start:stop] that find, count and startswith search in.
struct Window {
  std::string_view text;
  std::int64_t start;  ///< characters before it
  bool is_valid;       ///< false if start lies behind the end: then not even "" is found
};

Window window(Runtime& runtime, const Value& self, const Bound& bound) {
  const std::string_view s = self.as_string();
  runtime.charge(s.size());
  if (!bound.given(1) && !bound.given(2)) return {s, 0, true};
  const auto size = static_cast<std::int64_t>(text::length(s));
  const auto index = [&](std::size_t i, std::int64_t otherwise) {
    const std::int64_t at = bound.integer(i, otherwise);
    return at < 0 ? std::max<std::int64_t>(at + size, 0) : at;
  };
  const std::int64_t start = index(1, 0), stop = std::min(index(2, size), size);
  if (start > stop) return {"", start, false};
  const std::size_t begin = text::offset(s, static_cast<std::size_t>(start));
  const std::size_t end = text::offset(s, static_cast<std::size_t>(stop));
  return {s.substr(begin, end - begin), start, true};
}

template <bool FromRight, bool MustExist>
Value find(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("find", arguments, {"sub", "start", "end"}, 1);
  const Window in = window(runtime, self, bound);
  const std::string_view needle = bound.string(0, "");
  const std::size_t at = !in.is_valid ? std::string_view::npos
                         : FromRight  ? text::rfind(in.text, needle)
                                      : text::find(in.text, needle);
  if (at != std::string_view::npos) {
    return Value::integer(in.start + static_cast<std::int64_t>(text::length(in.text.substr(0, at))));
  }
  if (MustExist) fail("substring not found");
  return Value::integer(-1);
}

Value count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"sub", "start", "end"}, 1);
  const Window in = window(runtime, self, bound);
  const std::string_view needle = bound.string(0, "");
  if (!in.is_valid) return Value::integer(0);
  if (needle.empty()) return Value::integer(static_cast<std::int64_t>(text::length(in.text)) + 1);
  std::int64_t total = 0;
  for (std::size_t at = text::find(in.text, needle); at != std::string_view::npos;
       at = text::find(in.text, needle, at + needle.size())) {
    ++total;
  }
  return Value::integer(total);
}

template <bool AtEnd>
Value has_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(AtEnd ? "endswith" : "startswith", arguments, {"prefix", "start", "end"}, 1);
  const Window in = window(runtime, self, bound);
  const auto matches = [&](const Value& affix) {
    require_defined(affix);
    if (!affix.is_string()) {
      fail(std::string(AtEnd ? "endswith" : "startswith") + " first arg must be str or a tuple of str, not " +
           std::string(affix.type_name()));
    }
    return in.is_valid &&
           (AtEnd ? in.text.ends_with(affix.as_string()) : in.text.starts_with(affix.as_string()));
  };
  const Value& affix = *bound[0];
  if (!affix.is_sequence() || affix.as_sequence()->kind != SequenceKind::tuple)
    return Value::boolean(matches(affix));
  const auto& all = affix.as_sequence()->items;
  return Value::boolean(std::any_of(all.begin(), all.end(), matches));
}

template <bool AtEnd>
Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(AtEnd ? "removesuffix" : "removeprefix", arguments, {"affix"}, 1);
  std::string_view s = self.as_string();
  const std::string_view affix = bound.string(0, "");
  if (AtEnd && s.ends_with(affix)) s.remove_suffix(affix.size());
  if (!AtEnd && s.starts_with(affix)) s.remove_prefix(affix.size());
  return runtime.string(std::string(s));
}

Value replace(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  runtime.charge(self.as_string().size());
  return runtime.string(text::replace(self.as_string(), bound.string(0, ""), bound.string(1, ""),
                                      bound.integer(2, -1), runtime.limits.max_string));
}

Value join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("join", arguments, {"iterable"}, 1);
  std::string out;
  std::size_t index = 0;
  for (const Value& item : iterate(runtime, *bound[0])) {
    if (!item.is_string()) {
      fail("sequence item " + std::to_string(index) + ": expected str instance, " +
           std::string(item.type_name()) + " found");
    }
    if (index++ > 0) append_string(runtime, out, self);
    append_string(runtime, out, item);
  }
  return runtime.string(std::move(out));
}

enum class Side { left, right, both };

template <Side Where>
Value padded(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("padding", arguments, {"width", "fillchar"}, 1);
  const std::string& s = self.as_string();
  const std::string_view fill = bound.string(1, " ");
  if (text::length(fill) != 1) fail("The fill character must be exactly one character long");
  runtime.charge(s.size());
  const std::int64_t width = bound.integer(0, 0),
                     missing = width - static_cast<std::int64_t>(text::length(s));
  if (missing <= 0) return self;
  runtime.check_string(static_cast<std::size_t>(missing));
  const std::int64_t left = Where == Side::left    ? 0
                            : Where == Side::right ? missing
                                                   : missing / 2 + (missing & width & 1);
  std::string out;
  for (std::int64_t i = 0; i < left; ++i) out += fill;
  out += s;
  for (std::int64_t i = left; i < missing; ++i) out += fill;
  return runtime.string(std::move(out));
}

Value zero_fill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("zfill", arguments, {"width"}, 1);
  const std::string& s = self.as_string();
  const std::int64_t missing = bound.integer(0, 0) - static_cast<std::int64_t>(text::length(s));
  if (missing <= 0) return self;
  runtime.check_string(static_cast<std::size_t>(missing));
  const std::size_t sign = !s.empty() && (s[0] == '+' || s[0] == '-') ? 1 : 0;
  return runtime.string(s.substr(0, sign) + std::string(static_cast<std::size_t>(missing), '0') +
                        s.substr(sign));
}

Value format(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return format_braces(runtime, self.as_string(), arguments);
}

// Sorted; null: Python has it, we do not.
constexpr NamedFunction kMethods[] = {
    {"capitalize", mapped<text::capitalize>},
    {"casefold", mapped<text::casefold>},
    {"center", padded<Side::both>},
    {"count", count},
    {"encode", nullptr},
    {"endswith", has_affix<true>},
    {"expandtabs", nullptr},
    {"find", find<false, false>},
    {"format", format},
    {"format_map", nullptr},
    {"index", find<false, true>},
    {"isalnum", all_of<is_alphanumeric>},
    {"isalpha", all_of<text::is_alpha>},
    {"isascii", is_ascii},
    {"isdecimal", all_of<text::is_decimal>},
    {"isdigit", all_of<text::is_digit>},
    {"isidentifier", nullptr},
    {"islower", has_case<text::is_lower, text::is_upper>},
    {"isnumeric", nullptr},
    {"isprintable", nullptr},
    {"isspace", all_of<text::is_space>},
    {"istitle", is_title},
    {"isupper", has_case<text::is_upper, text::is_lower>},
    {"join", join},
    {"ljust", padded<Side::left>},
    {"lower", mapped<text::lower>},
    {"lstrip", stripped<true, false>},
    {"maketrans", nullptr},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", padded<Side::right>},
    {"rpartition", partition<true>},
    {"rsplit", split<text::rsplit>},
    {"rstrip", stripped<false, true>},
    {"split", split<text::split>},
    {"splitlines", split_lines},
    {"startswith", has_affix<false>},
    {"strip", stripped<true, true>},
    {"swapcase", mapped<text::swapcase>},
    {"title", mapped<text::title>},
    {"translate", nullptr},
    {"upper", mapped<text::upper>},
    {"zfill", zero_fill},
};

}  // namespace

std::span<const NamedFunction> string_methods() noexcept { return kMethods; }

}  // namespace metal_candle::jinja
