#include <algorithm>

#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

/// The input as text, with its length charged.
StringPtr input(Runtime& runtime, const Value& value) {
  StringPtr s = to_string(runtime, value);
  runtime.charge(s->size() * 2);
  return s;
}

Value capitalize(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("capitalize", arguments, {});
  return runtime.string_like(self, text::capitalize(*input(runtime, self)));
}

Value lower(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("lower", arguments, {});
  return runtime.string_like(self, text::lower(*input(runtime, self)));
}

Value upper(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("upper", arguments, {});
  return runtime.string_like(self, text::upper(*input(runtime, self)));
}

// Unlike str.title: words begin behind spaces, hyphens and opening brackets only.
Value title(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("title", arguments, {});
  const StringPtr s = input(runtime, self);
  const auto is_separator = [](char32_t c) {
    return c == '-' || c == '(' || c == '{' || c == '[' || c == '<' || text::is_space(c);
  };
  std::string out;
  for (std::size_t at = 0; at < s->size();) {
    const std::size_t begin = at;
    const bool separates = is_separator(text::decode(*s, at).value);
    while (at < s->size() && is_separator(text::decode(*s, at).value) == separates)
      at += text::decode(*s, at).size;
    const std::string_view word = std::string_view(*s).substr(begin, at - begin);
    const std::size_t first = text::decode(word, 0).size;
    out += text::upper(word.substr(0, first)) + text::lower(word.substr(first));
  }
  return runtime.string(std::move(out));
}

Value string(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("string", arguments, {});
  return self.is_markup() ? self : Value(to_string(runtime, self));
}

Value trim(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("trim", arguments, {"chars"});
  const StringPtr s = input(runtime, self);
  if (!bound.given(0) || bound[0]->is_none()) return runtime.string_like(self, std::string(text::strip(*s)));
  const std::string_view chars = bound.string(0, "");
  if (chars.size() > 256) fail_unsupported("trim() of more than 256 characters");
  return runtime.string_like(self, std::string(text::strip_left(text::strip_right(*s, chars), chars)));
}

Value replace(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("replace", arguments, {"old", "new", "count"}, 2);
  const StringPtr old = to_string(runtime, *bound[0]), replacement = to_string(runtime, *bound[1]);
  return runtime.string(text::replace(*input(runtime, self), *old, *replacement, bound.integer(2, -1),
                                      runtime.limits.max_string));
}

Value center(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("center", arguments, {"width"});
  Arguments width;
  width.positional.push_back(Value::integer(bound.integer(0, 80)));
  const Value s = self.is_markup() ? self : Value(to_string(runtime, self));
  return call(runtime, get_attribute(runtime, s, "center"), width);
}

Value force_escape(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("escape", arguments, {});
  return Value::markup(runtime.string(escape_html(*input(runtime, self))).string_ptr());
}

Value escape(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return self.is_markup() ? self : force_escape(runtime, self, arguments);
}

Value safe(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("safe", arguments, {});
  return Value::markup(to_string(runtime, self));
}

Value indent(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("indent", arguments, {"width", "first", "blank"});
  require_defined(self);
  if (!self.is_string()) fail("indent() needs a str, not '" + std::string(self.type_name()) + "'");
  std::string margin;
  if (bound.given(0) && bound[0]->is_string()) {
    margin = bound[0]->as_string();
  } else {
    const std::int64_t width = std::max<std::int64_t>(bound.integer(0, 4), 0);
    runtime.check_string(static_cast<std::size_t>(width));
    margin.assign(static_cast<std::size_t>(width), ' ');
  }
  const bool first = bound.truthy(1, false), blank = bound.truthy(2, false);
  runtime.charge(self.as_string().size());
  const std::string s = self.as_string() + "\n";
  std::string out;
  bool is_first = true;
  for (const std::string_view line : text::split_lines(s, false)) {
    if (!is_first) out += '\n';
    if (is_first ? first : blank || !line.empty()) out += margin;
    out += line;
    is_first = false;
    runtime.charge(margin.size());
    runtime.check_string(out.size());
  }
  return runtime.string_like(self, std::move(out));
}

Value truncate(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("truncate", arguments, {"length", "killwords", "end", "leeway"});
  require_defined(self);
  if (!self.is_string()) fail("truncate() needs a str, not '" + std::string(self.type_name()) + "'");
  const std::string_view s = self.as_string(), end = bound.string(2, "...");
  runtime.charge(s.size());
  const std::int64_t limit = bound.integer(0, 255), leeway = bound.integer(3, 5);
  const std::int64_t end_size = static_cast<std::int64_t>(text::length(end));
  if (limit < end_size)
    fail("expected length >= " + std::to_string(end_size) + ", got " + std::to_string(limit));
  if (leeway < 0) fail("expected leeway >= 0, got " + std::to_string(leeway));
  if (static_cast<std::int64_t>(text::length(s)) - leeway <= limit) return self;
  std::string_view kept = s.substr(0, text::offset(s, static_cast<std::size_t>(limit - end_size)));
  if (!bound.truthy(1, false)) kept = text::rsplit(kept, " ", 1).front();
  return runtime.string_like(self,
                             std::string(kept) + (self.is_markup() ? escape_html(end) : std::string(end)));
}

Value word_count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("wordcount", arguments, {});
  const StringPtr s = input(runtime, self);
  std::int64_t count = 0;
  bool inside = false;
  for (std::size_t at = 0; at < s->size();) {
    const text::Point p = text::decode(*s, at);
    const bool is_word = text::is_alpha(p.value) || text::is_digit(p.value) || p.value == '_';
    if (is_word && !inside) ++count;
    inside = is_word;
    at += p.size;
  }
  return Value::integer(count);
}

Value format(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (self.is_markup()) fail_unsupported("formatting of text marked as safe");
  const StringPtr s = to_string(runtime, self);
  if (arguments.named.empty()) return format_percent(runtime, *s, runtime.tuple(arguments.positional));
  if (!arguments.positional.empty()) fail("can't handle positional and keyword arguments at the same time");
  Dict named;
  for (const auto& [name, value] : arguments.named) named.set(runtime, Value::string(name), value);
  return format_percent(runtime, *s, runtime.dict(std::move(named)));
}

// The signature that transformers gives this filter: plain json.dumps, nothing escaped for HTML.
Value to_json(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = bound.truthy(0, false);
  style.sort_keys = bound.truthy(3, false);
  style.pretty = bound.given(1) && !bound[1]->is_none();
  if (style.pretty) {
    style.item_separator = ",";
    if (bound[1]->is_string()) {
      style.indent = bound[1]->as_string();
    } else {
      const std::int64_t width = std::max<std::int64_t>(bound.integer(1, 0), 0);
      runtime.check_string(static_cast<std::size_t>(width));
      style.indent.assign(static_cast<std::size_t>(width), ' ');
    }
  }
  if (bound.given(2) && !bound[2]->is_none()) {
    const std::vector<Value> separators = iterate(runtime, *bound[2]);
    if (separators.size() != 2 || !separators[0].is_string() || !separators[1].is_string()) {
      fail("tojson() needs two separators");
    }
    style.item_separator = separators[0].as_string();
    style.key_separator = separators[1].as_string();
  }
  std::string out;
  append_json(runtime, out, self, style);
  return runtime.string(std::move(out));
}

constexpr NamedFunction kFilters[] = {
    {"capitalize", capitalize},    {"center", center}, {"e", escape},          {"escape", escape},
    {"forceescape", force_escape}, {"format", format}, {"indent", indent},     {"lower", lower},
    {"replace", replace},          {"safe", safe},     {"string", string},     {"title", title},
    {"tojson", to_json},           {"trim", trim},     {"truncate", truncate}, {"upper", upper},
    {"wordcount", word_count},
};

}  // namespace

Value ignore_case(Runtime& runtime, const Value& value) {
  return value.is_string() ? runtime.string(text::lower(value.as_string())) : value;
}

std::span<const NamedFunction> text_filters() noexcept { return kFilters; }

}  // namespace metal_candle::jinja
