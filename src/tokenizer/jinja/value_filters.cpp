// Filters over single values: numbers and defaults.
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>

#include "core/checked.h"
#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

Value default_filter(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("default", arguments, {"default_value", "boolean"});
  const bool is_missing = self.is_undefined() || (bound.truthy(1, false) && !truthy(self));
  if (!is_missing) return self;
  return bound.given(0) ? *bound[0] : Value::string("");
}

Value attr(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("attr", arguments, {"name"}, 1);
  require_defined(self);
  const std::string name(bound.string(0, ""));
  // Unlike `self.name`, never an item of a dict.
  if (self.is_dict() && !find_method(runtime, self, name)) {
    return Value::undefined("'dict object' has no attribute " + string_repr(name));
  }
  return get_attribute(runtime, self, name);
}

Value abs(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("abs", arguments, {});
  require_defined(self);
  if (!self.is_number()) fail("bad operand type for abs(): '" + std::string(self.type_name()) + "'");
  if (self.is_floating()) return Value::floating(std::abs(self.as_double()));
  return self.as_integer() < 0 ? negative(self) : positive(self);
}

/// A numeral without its underscores; nothing where one is not between two digits.
std::optional<std::string> without_underscores(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] != '_') {
      out += s[i];
      continue;
    }
    const auto is_digit = [&](std::size_t k) {
      return k < s.size() && std::isalnum(static_cast<unsigned char>(s[k])) != 0;
    };
    if (i == 0 || !is_digit(i - 1) || !is_digit(i + 1)) return std::nullopt;
  }
  return out;
}

/// float(text); nothing where Python raises ValueError.
std::optional<double> parse_float(std::string_view s) {
  const auto digits = without_underscores(text::strip(s));
  if (!digits) return std::nullopt;
  std::string_view body = *digits;
  if (body.starts_with('+') && !body.starts_with("+-")) body.remove_prefix(1);
  const bool is_nan_with_payload = body.find('(') != std::string_view::npos;
  double value = 0;
  const auto result = std::from_chars(body.data(), body.data() + body.size(), value);
  if (body.empty() || is_nan_with_payload || result.ptr != body.data() + body.size()) return std::nullopt;
  // Out of range: Python gives infinity or zero, as strtod does.
  if (result.ec == std::errc::result_out_of_range) return std::strtod(std::string(body).c_str(), nullptr);
  return result.ec == std::errc() ? std::optional(value) : std::nullopt;
}

std::int64_t truncated(double value) {
  if (!(std::abs(value) < 9.2233720368547e18)) fail_unsupported("an integer beyond 64 bits");
  return static_cast<std::int64_t>(value);
}

/// int(text, base); nothing where Python raises ValueError.
std::optional<std::int64_t> parse_integer(std::string_view s, std::int64_t base) {
  if (base != 0 && (base < 2 || base > 36)) return std::nullopt;
  const auto digits = without_underscores(text::strip(s));
  if (!digits) return std::nullopt;
  std::string_view body = *digits;
  const bool is_negative = body.starts_with('-');
  if (is_negative || body.starts_with('+')) body.remove_prefix(1);
  if (body.size() > 1 && body[0] == '0') {
    const char marker = static_cast<char>(body[1] | 32);
    const std::int64_t marked = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 0;
    if (marked != 0 && (base == 0 || base == marked)) {
      base = marked;
      body.remove_prefix(2);
    } else if (base == 0 && body.find_first_not_of('0') != std::string_view::npos) {
      return std::nullopt;
    }
  }
  std::uint64_t value = 0;
  const auto result =
      std::from_chars(body.data(), body.data() + body.size(), value, base == 0 ? 10 : static_cast<int>(base));
  if (body.empty() || body[0] == '-' || result.ptr != body.data() + body.size()) return std::nullopt;
  constexpr std::uint64_t kLimit = std::uint64_t{1} << 63;
  if (result.ec != std::errc() || value > kLimit || (value == kLimit && !is_negative)) {
    fail_unsupported("an integer beyond 64 bits");
  }
  return static_cast<std::int64_t>(is_negative ? ~value + 1 : value);
}

Value to_integer(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("int", arguments, {"default", "base"});
  require_defined(self);
  Value otherwise = bound.given(0) ? *bound[0] : Value::integer(0);
  if (self.is_integral()) return Value::integer(self.as_integer());
  double value = 0;
  if (self.is_floating()) {
    value = self.as_double();
    if (std::isinf(value)) fail("cannot convert float infinity to integer");
  } else if (self.is_string()) {
    runtime.charge(self.as_string().size());
    if (const auto number = parse_integer(self.as_string(), bound.integer(1, 10)))
      return Value::integer(*number);
    const auto real = parse_float(self.as_string());
    if (!real || std::isinf(*real)) return otherwise;
    value = *real;
  } else {
    return otherwise;
  }
  return std::isnan(value) ? otherwise : Value::integer(truncated(value));
}

Value to_float(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("float", arguments, {"default"});
  require_defined(self);
  if (self.is_number()) return Value::floating(self.as_double());
  if (self.is_string()) {
    runtime.charge(self.as_string().size());
    if (const auto number = parse_float(self.as_string())) return Value::floating(*number);
  }
  return bound.given(0) ? *bound[0] : Value::floating(0);
}

/// round(value, precision) of an int: half to even at a power of ten.
Value round_integer(std::int64_t value, std::int64_t precision) {
  if (precision >= 0) return Value::integer(value);
  if (precision < -18) return Value::integer(0);
  std::int64_t unit = 1;
  for (; precision < 0; ++precision) unit *= 10;
  std::int64_t rest = value % unit;
  if (rest < 0) rest += unit;
  const std::int64_t quotient = (value - value % unit) / unit - (value % unit < 0 ? 1 : 0);
  const bool up = rest > unit / 2 || (rest == unit / 2 && quotient % 2 != 0);
  const auto out = checked_mul(quotient + (up ? 1 : 0), unit);
  if (!out) fail_unsupported("an integer beyond 64 bits");
  return Value::integer(*out);
}

Value round(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("round", arguments, {"precision", "method"});
  require_defined(self);
  if (!self.is_number()) fail("type " + std::string(self.type_name()) + " doesn't define __round__ method");
  const std::string_view method = bound.string(1, "common");
  const std::int64_t precision = bound.integer(0, 0);
  if (method != "common" && method != "ceil" && method != "floor")
    fail("method must be common, ceil or floor");
  if (method == "common" && self.is_integral()) return round_integer(self.as_integer(), precision);
  const double value = self.as_double();
  if (method != "common") {
    if (precision < -300 || precision > 300) fail_unsupported("round() to so many digits");
    const double unit = std::pow(10.0, static_cast<double>(precision));
    const double scaled = value * unit;
    if (!std::isfinite(scaled)) fail("cannot convert float to integer");
    return Value::floating((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
  }
  if (!std::isfinite(value) || precision > 300) return Value::floating(value);
  if (precision < -308) return Value::floating(std::copysign(0.0, value));
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return Value::floating(std::nearbyint(value / unit) * unit);
  }
  // Exact decimal digits, half to even on the exact value: what Python does.
  return Value::floating(
      std::strtod(format_float(value, 'f', static_cast<int>(precision), false).c_str(), nullptr));
}

constexpr NamedFunction kFilters[] = {
    {"abs", abs},        {"attr", attr},      {"d", default_filter}, {"default", default_filter},
    {"float", to_float}, {"int", to_integer}, {"round", round}};

}  // namespace

std::span<const NamedFunction> value_filters() noexcept { return kFilters; }

}  // namespace metal_candle::jinja
