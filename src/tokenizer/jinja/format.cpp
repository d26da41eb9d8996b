// Python's two format languages: "..." % values and "...".format(values).
#include <array>
#include <cmath>
#include <cstdio>
#include <optional>

#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

constexpr std::size_t kMaxDigits = 400;  // of a precision; a double has fewer

struct Spec {
  std::string fill = " ";
  char align = 0;  ///< < > ^ =, or 0 for the type's own
  char sign = '-';
  bool alternate = false;
  bool zero = false;
  std::size_t width = 0;
  char grouping = 0;
  std::optional<std::size_t> precision;
  char type = 0;
};

/// A decimal number at `at`, which moves behind it; nothing if there is none.
std::optional<std::size_t> read_number(std::string_view s, std::size_t& at) {
  std::size_t number = 0;
  const std::size_t begin = at;
  for (; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at) {
    if (at - begin > 9) fail("too many digits in a format");
    number = number * 10 + static_cast<std::size_t>(s[at] - '0');
  }
  return at == begin ? std::nullopt : std::optional(number);
}

std::string pad(Runtime& runtime, const std::string& sign, const std::string& body, const Spec& spec,
                char align) {
  runtime.check_string(spec.width);
  const std::size_t have = text::length(sign) + text::length(body);
  if (have >= spec.width) return sign + body;
  const std::size_t missing = spec.width - have;
  const auto fill = [&](std::size_t count) {
    std::string out;
    for (std::size_t i = 0; i < count; ++i) out += spec.fill;
    return out;
  };
  switch (align) {
    case '<': return sign + body + fill(missing);
    case '^': return fill(missing / 2) + sign + body + fill(missing - missing / 2);
    case '=': return sign + fill(missing) + body;
    default: return fill(missing) + sign + body;
  }
}

std::string group(const std::string& digits, char separator, std::size_t every) {
  if (separator == 0) return digits;
  const std::size_t end = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  std::string out;
  for (std::size_t i = 0; i < end; ++i) {
    if (i > 0 && (end - i) % every == 0) out += separator;
    out += digits[i];
  }
  return out + digits.substr(end);
}

std::string digits_of(std::uint64_t number, char type) {
  const unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : (type | 32) == 'x' ? 16 : 10;
  const char* symbols = type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string out;
  do {
    out.insert(out.begin(), symbols[number % base]);
    number /= base;
  } while (number != 0);
  return out;
}

std::string prefix_of(const Spec& spec, char type) {
  if (!spec.alternate) return "";
  return type == 'b' ? "0b" : type == 'o' ? "0o" : type == 'x' ? "0x" : type == 'X' ? "0X" : "";
}

std::string sign_of(bool is_negative, const Spec& spec) {
  if (is_negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string format_integer(Runtime& runtime, std::int64_t value, const Spec& spec, char type) {
  const auto magnitude =
      value < 0 ? ~static_cast<std::uint64_t>(value) + 1 : static_cast<std::uint64_t>(value);
  std::string body = digits_of(magnitude, type);
  if (spec.precision && body.size() < *spec.precision) {
    if (*spec.precision > kMaxDigits) fail("a format's precision is too large");
    body.insert(0, *spec.precision - body.size(), '0');
  }
  body = group(body, spec.grouping, type == 'd' || type == 0 ? 3 : 4);
  return pad(runtime, sign_of(value < 0, spec) + prefix_of(spec, type), body, spec,
             spec.align != 0 ? spec.align
             : spec.zero     ? '='
                             : '>');
}

std::string format_number(Runtime& runtime, double value, const Spec& spec, char type) {
  const std::size_t precision = spec.precision.value_or(6);
  if (precision > kMaxDigits) fail("a format's precision is too large");
  const bool percent = type == '%';
  std::string body = format_float(std::abs(percent ? value * 100 : value), percent ? 'f' : type,
                                  static_cast<int>(precision), spec.alternate);
  body = group(body, std::isfinite(value) ? spec.grouping : '\0', 3);
  if (percent) body += '%';
  return pad(runtime, sign_of(std::signbit(value) && !std::isnan(value), spec), body, spec,
             spec.align != 0 ? spec.align
             : spec.zero     ? '='
                             : '>');
}

std::string format_text(Runtime& runtime, std::string_view s, const Spec& spec, char default_align) {
  if (spec.precision) s = s.substr(0, text::offset(s, *spec.precision));
  return pad(runtime, "", std::string(s), spec, spec.align != 0 ? spec.align : default_align);
}

// One printf-style conversion, after its flags.
std::string convert(Runtime& runtime, const Value& value, const Spec& spec, char type) {
  if (type == 's' || type == 'r') {
    std::string out;
    type == 's' ? append_string(runtime, out, value) : append_repr(runtime, out, value);
    return format_text(runtime, out, spec, '>');
  }
  if (type == 'c') {
    if (value.is_string() && text::length(value.as_string()) == 1) {
      return format_text(runtime, value.as_string(), spec, '>');
    }
    if (!value.is_integral() || value.as_integer() < 0 || value.as_integer() > 0x10FFFF) {
      fail("%c requires int or char");
    }
    std::string out;
    text::append(out, static_cast<char32_t>(value.as_integer()));
    return format_text(runtime, out, spec, '>');
  }
  require_defined(value);
  if (!value.is_number()) {
    fail(std::string("%") + type + " format: a real number is required, not " +
         std::string(value.type_name()));
  }
  if (std::string_view("eEfFgG").find(type) != std::string_view::npos) {
    return format_number(runtime, value.as_double(), spec, type);
  }
  if (value.is_integral()) return format_integer(runtime, value.as_integer(), spec, type);
  if ((type != 'd') || !(std::abs(value.as_double()) < 9.2e18)) {
    fail(std::string("%") + type + " format: an integer of 64 bits is required, not float");
  }
  return format_integer(runtime, static_cast<std::int64_t>(value.as_double()), spec, type);
}

Spec parse_spec(std::string_view s) {
  Spec spec;
  std::size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!s.empty()) {
    const std::size_t first = text::decode(s, 0).size;
    if (first < s.size() && is_align(s[first])) {
      spec.fill = s.substr(0, first);
      spec.align = s[first];
      at = first + 1;
    } else if (is_align(s[0])) {
      spec.align = s[0];
      at = 1;
    }
  }
  const auto take = [&](std::string_view set) {
    return at < s.size() && set.find(s[at]) != std::string_view::npos ? s[at++] : '\0';
  };
  if (const char sign = take("+- ")) spec.sign = sign;
  spec.alternate = take("#") != 0;
  spec.zero = take("0") != 0;
  if (spec.zero && spec.align == 0) spec.fill = "0";
  spec.width = read_number(s, at).value_or(0);
  spec.grouping = take(",_");
  if (take(".") != 0) {
    spec.precision = read_number(s, at);
    if (!spec.precision) fail("Format specifier missing precision");
  }
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) fail("Invalid format specifier");
  return spec;
}

std::string apply_spec(Runtime& runtime, const Value& value, std::string_view text) {
  if (text.empty()) return *to_string(runtime, value);
  require_defined(value);
  const Spec spec = parse_spec(text);
  if (spec.grouping != 0 && spec.zero) fail_unsupported("a format with both grouping and zero padding");
  const auto is_one_of = [&](std::string_view types) {
    return types.find(spec.type) != std::string_view::npos;
  };
  if (value.is_string() && (spec.type == 0 || spec.type == 's')) {
    if (spec.align == '=' || spec.sign != '-' || spec.grouping != 0)
      fail("Invalid format specifier for a str");
    return format_text(runtime, value.as_string(), spec, '<');
  }
  if (value.is_integral() && (spec.type == 0 || is_one_of("bdoxX")) && !spec.precision) {
    return format_integer(runtime, value.as_integer(), spec, spec.type);
  }
  if (value.is_number() && spec.type != 0 && is_one_of("eEfFgG%")) {
    return format_number(runtime, value.as_double(), spec, spec.type);
  }
  if (value.is_floating() && spec.type == 0 && !spec.precision) {
    const double number = value.as_double();
    const std::string body = group(float_repr(std::abs(number)), spec.grouping, 3);
    return pad(runtime, sign_of(std::signbit(number), spec), body, spec,
               spec.align != 0 ? spec.align
               : spec.zero     ? '='
                               : '>');
  }
  fail_unsupported("the format '" + std::string(text) + "' for a value of type " +
                   std::string(value.type_name()));
}

/// "{}" fields of one str.format call.
class BraceFormat {
 public:
  BraceFormat(Runtime& runtime, const Arguments& arguments) : runtime_(runtime), arguments_(arguments) {}

  std::string format(std::string_view s, int depth) {
    if (depth < 0) fail("Max string recursion exceeded");
    std::string out;
    for (std::size_t at = 0; at < s.size();) {
      const char c = s[at];
      if ((c == '{' || c == '}') && at + 1 < s.size() && s[at + 1] == c) {
        out += c;
        at += 2;
      } else if (c == '}') {
        fail("Single '}' encountered in format string");
      } else if (c == '{') {
        out += field(s, ++at, depth);
      } else {
        out += c;
        ++at;
      }
      runtime_.charge(1);
      runtime_.check_string(out.size());
    }
    return out;
  }

 private:
  /// The field that starts at `at`, behind its brace; `at` moves behind the closing one.
  std::string field(std::string_view s, std::size_t& at, int depth) {
    std::size_t end = at;
    for (int open = 1; end < s.size(); ++end) {
      if (s[end] == '{') ++open;
      if (s[end] == '}' && --open == 0) break;
    }
    if (end == s.size()) fail("expected '}' before end of string");
    const std::string_view all = s.substr(at, end - at);
    at = end + 1;
    const std::size_t name_end = std::min(all.find_first_of("!:"), all.size());
    Value value = lookup(all.substr(0, name_end));
    std::string_view rest = all.substr(name_end);
    if (!rest.empty() && rest[0] == '!') {
      if (rest.size() < 2 || (rest[1] != 's' && rest[1] != 'r'))
        fail_unsupported("this conversion in a format");
      std::string out;
      rest[1] == 's' ? append_string(runtime_, out, value) : append_repr(runtime_, out, value);
      value = runtime_.string(std::move(out));
      rest.remove_prefix(2);
    }
    if (!rest.empty() && rest[0] != ':') fail("expected ':' after conversion specifier");
    return apply_spec(runtime_, value, rest.empty() ? "" : format(rest.substr(1), depth - 1));
  }

  Value lookup(std::string_view path) {
    const std::size_t first_end = std::min(path.find_first_of(".["), path.size());
    const std::string_view first = path.substr(0, first_end);
    std::size_t digits = 0;
    std::optional<std::size_t> index = read_number(first, digits);
    if (digits != first.size()) index.reset();
    if (first.empty()) index = next_++;
    Value value;
    if (index) {
      if (*index >= arguments_.positional.size())
        fail("Replacement index " + std::to_string(*index) + " out of range");
      value = arguments_.positional[*index];
    } else {
      const Value* found = arguments_.find(first);
      if (found == nullptr) fail("format() misses the argument '" + std::string(first) + "'");
      value = *found;
    }
    std::string_view rest = path.substr(first_end);
    while (!rest.empty()) {
      const bool is_item = rest[0] == '[';
      const std::size_t end = is_item ? rest.find(']') : std::min(rest.find_first_of(".[", 1), rest.size());
      if (end == std::string_view::npos) fail("Missing ']' in format string");
      const std::string_view name = rest.substr(1, end - 1);
      std::size_t used = 0;
      const auto number = read_number(name, used);
      value = !is_item ? get_attribute(runtime_, value, name)
              : number && used == name.size()
                  ? get_item(runtime_, value, Value::integer(static_cast<std::int64_t>(*number)))
                  : get_item(runtime_, value, Value::string(std::string(name)));
      rest.remove_prefix(is_item ? end + 1 : end);
    }
    return value;
  }

  Runtime& runtime_;
  const Arguments& arguments_;
  std::size_t next_ = 0;
};

}  // namespace

std::string format_float(double value, char type, int precision, bool alternate) {
  if (!std::isfinite(value)) {
    const bool is_upper = type >= 'A' && type <= 'Z';
    if (std::isnan(value)) return is_upper ? "NAN" : "nan";
    return std::string(value < 0 ? "-" : "") + (is_upper ? "INF" : "inf");
  }
  const std::string pattern = std::string(alternate ? "%#.*" : "%.*") + type;
  std::string out(kMaxDigits * 2 + 8, '\0');
  const int size = std::snprintf(out.data(), out.size(), pattern.c_str(), precision, value);
  out.resize(static_cast<std::size_t>(size));
  return out;
}

Value format_percent(Runtime& runtime, std::string_view format, const Value& arguments) {
  const bool is_tuple = arguments.is_sequence() && (arguments.as_sequence()->kind == SequenceKind::tuple ||
                                                    arguments.as_sequence()->kind == SequenceKind::group);
  const std::size_t count = is_tuple ? arguments.as_sequence()->items.size() : 1;
  std::size_t used = 0;
  bool used_mapping = false;
  const auto next = [&]() -> Value {
    if (used >= count) fail("not enough arguments for format string");
    ++used;
    return is_tuple ? arguments.as_sequence()->items[used - 1] : arguments;
  };
  const auto star = [&]() -> std::size_t {
    const Value v = next();
    if (!v.is_integral() || v.as_integer() < 0) fail("* wants a non-negative int");
    return static_cast<std::size_t>(v.as_integer());
  };
  std::string out;
  for (std::size_t at = 0; at < format.size();) {
    runtime.charge(1);
    runtime.check_string(out.size());
    if (format[at] != '%') {
      out += format[at++];
      continue;
    }
    ++at;
    std::optional<Value> named;
    if (at < format.size() && format[at] == '(') {
      const std::size_t end = format.find(')', at);
      if (end == std::string_view::npos) fail("incomplete format key");
      if (!arguments.is_dict()) fail("format requires a mapping");
      const std::string key(format.substr(at + 1, end - at - 1));
      const Value* found = arguments.as_dict()->find(key);
      if (found == nullptr) fail("the format's key " + string_repr(key) + " is missing");
      named = *found;
      used_mapping = true;
      at = end + 1;
    }
    Spec spec;
    for (; at < format.size() && std::string_view("#0- +").find(format[at]) != std::string_view::npos; ++at) {
      switch (format[at]) {
        case '#': spec.alternate = true; break;
        case '0': spec.zero = true; break;
        case '-': spec.align = '<'; break;
        case '+': spec.sign = '+'; break;
        default:
          if (spec.sign == '-') spec.sign = ' ';
      }
    }
    const auto size = [&]() -> std::optional<std::size_t> {
      if (at < format.size() && format[at] == '*') {
        ++at;
        return star();
      }
      return read_number(format, at);
    };
    spec.width = size().value_or(0);
    if (at < format.size() && format[at] == '.') {
      ++at;
      spec.precision = size().value_or(0);
    }
    while (at < format.size() && std::string_view("hlL").find(format[at]) != std::string_view::npos) ++at;
    if (at == format.size()) fail("incomplete format");
    char type = format[at++];
    if (type == '%') {
      out += '%';
      continue;
    }
    if (type == 'i' || type == 'u') type = 'd';
    if (std::string_view("srcdoxXeEfFgG").find(type) == std::string_view::npos) {
      fail_unsupported(std::string("the format %") + type);
    }
    const bool is_text = type == 's' || type == 'r' || type == 'c';
    if (spec.zero && spec.align == 0 && !is_text) spec.fill = "0";
    out += convert(runtime, named ? *named : next(), spec, type);
  }
  if (!used_mapping && used < count && !(arguments.is_dict() && !is_tuple)) {
    fail("not all arguments converted during string formatting");
  }
  return runtime.string(std::move(out));
}

Value format_braces(Runtime& runtime, std::string_view format, const Arguments& arguments) {
  return runtime.string(BraceFormat(runtime, arguments).format(format, 2));
}

}  // namespace metal_candle::jinja
