// Python's arithmetic. Integers have 64 bits: where Python would go on, we stop with Error(unsupported).
#include <cmath>
#include <limits>
#include <optional>

#include "core/checked.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"

namespace metal_candle::jinja {
namespace {

constexpr const char* kSymbols[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};

[[noreturn]] void fail_operands(BinaryOp op, const Value& a, const Value& b) {
  require_defined(a);
  require_defined(b);
  fail(std::string("unsupported operand type(s) for ") + kSymbols[static_cast<int>(op)] + ": '" +
       std::string(a.type_name()) + "' and '" + std::string(b.type_name()) + "'");
}

Value whole(std::optional<std::int64_t> result) {
  if (!result) fail_unsupported("an integer beyond 64 bits");
  return Value::integer(*result);
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  const std::int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integer_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) fail("0.0 cannot be raised to a negative power");
    return Value::floating(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  std::optional<std::int64_t> result = 1, square = base;
  for (; exponent > 0; exponent /= 2) {
    if (!square) fail_unsupported("an integer beyond 64 bits");
    if (exponent % 2 == 1) result = checked_mul(*result, *square);
    if (!result) fail_unsupported("an integer beyond 64 bits");
    square = checked_mul(*square, *square);
  }
  return Value::integer(*result);
}

Value integers(BinaryOp op, std::int64_t a, std::int64_t b) {
  switch (op) {
    case BinaryOp::add: return whole(checked_add(a, b));
    case BinaryOp::multiply: return whole(checked_mul(a, b));
    case BinaryOp::power: return integer_power(a, b);
    case BinaryOp::subtract: {
      std::int64_t out = 0;
      return whole(__builtin_sub_overflow(a, b, &out) ? std::nullopt : std::optional(out));
    }
    default: break;
  }
  if (b == 0) fail(op == BinaryOp::divide ? "division by zero" : "integer division or modulo by zero");
  if (op == BinaryOp::divide) return Value::floating(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) return op == BinaryOp::modulo ? Value::integer(0) : negative(Value::integer(a));
  const std::int64_t quotient = floor_divide(a, b);
  return Value::integer(op == BinaryOp::floor_divide ? quotient : a - quotient * b);
}

double float_power(double a, double b) {
  if (a == 0 && b < 0) fail("0.0 cannot be raised to a negative power");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b)) {
    fail_unsupported("a complex number");
  }
  const double out = std::pow(a, b);
  if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) fail("(34, 'Numerical result out of range')");
  return out;
}

// The remainder has the divisor's sign, and the quotient matches it.
Value float_division(BinaryOp op, double a, double b) {
  if (b == 0) {
    fail(op == BinaryOp::divide   ? "float division by zero"
         : op == BinaryOp::modulo ? "float modulo"
                                  : "float floor division by zero");
  }
  if (op == BinaryOp::divide) return Value::floating(a / b);
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == BinaryOp::modulo) return Value::floating(remainder);
  if (quotient == 0) return Value::floating(std::copysign(0.0, a / b));
  const double floored = std::floor(quotient);
  return Value::floating(quotient - floored > 0.5 ? floored + 1 : floored);
}

Value floats(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::add: return Value::floating(a + b);
    case BinaryOp::subtract: return Value::floating(a - b);
    case BinaryOp::multiply: return Value::floating(a * b);
    case BinaryOp::power: return Value::floating(float_power(a, b));
    default: return float_division(op, a, b);
  }
}

bool is_list(const Value& v) { return v.is_sequence() && v.as_sequence()->kind == SequenceKind::list; }
bool is_tuple(const Value& v) {
  return v.is_sequence() &&
         (v.as_sequence()->kind == SequenceKind::tuple || v.as_sequence()->kind == SequenceKind::group);
}

std::vector<Value> joined(Runtime& runtime, const Value& a, const Value& b) {
  std::vector<Value> items = iterate(runtime, a);
  const auto& more = b.as_sequence()->items;
  runtime.check_items(items.size() + more.size());
  items.insert(items.end(), more.begin(), more.end());
  return items;
}

Value repeat(Runtime& runtime, const Value& value, std::int64_t count) {
  const auto times = static_cast<std::uint64_t>(count > 0 ? count : 0);
  const std::uint64_t size = value.is_string() ? value.as_string().size() : value.as_sequence()->items.size();
  const std::uint64_t total = checked_mul(size, times).value_or(std::numeric_limits<std::uint64_t>::max());
  if (value.is_string()) {
    runtime.check_string(total);
    std::string out;
    out.reserve(total);
    for (std::uint64_t i = 0; i < times && size > 0; ++i) out += value.as_string();
    return runtime.string_like(value, std::move(out));
  }
  runtime.check_items(total);
  std::vector<Value> items;
  items.reserve(total);
  for (std::uint64_t i = 0; i < times && size > 0; ++i) {
    const auto& part = value.as_sequence()->items;
    items.insert(items.end(), part.begin(), part.end());
  }
  return is_list(value) ? runtime.list(std::move(items)) : runtime.tuple(std::move(items));
}

}  // namespace

Value arithmetic(Runtime& runtime, BinaryOp op, const Value& a, const Value& b) {
  if (op == BinaryOp::modulo && a.is_markup()) fail_unsupported("formatting of text marked as safe");
  if (op == BinaryOp::modulo && a.is_string()) return format_percent(runtime, a.as_string(), b);
  if (a.is_integral() && b.is_integral()) return integers(op, a.as_integer(), b.as_integer());
  if (a.is_number() && b.is_number()) return floats(op, a.as_double(), b.as_double());
  const auto is_repeatable = [](const Value& v) { return v.is_string() || is_list(v) || is_tuple(v); };
  if (op == BinaryOp::multiply && is_repeatable(a) && b.is_integral())
    return repeat(runtime, a, b.as_integer());
  if (op == BinaryOp::multiply && is_repeatable(b) && a.is_integral())
    return repeat(runtime, b, a.as_integer());
  if (op == BinaryOp::add) {
    if (a.is_string() && b.is_string()) {
      runtime.check_string(a.as_string().size() + b.as_string().size());
      if (!a.is_markup() && !b.is_markup()) return runtime.string(a.as_string() + b.as_string());
      const auto escaped = [](const Value& v) {
        return v.is_markup() ? v.as_string() : escape_html(v.as_string());
      };
      return runtime.string_like(a.is_markup() ? a : b, escaped(a) + escaped(b));
    }
    if (is_list(a) && is_list(b)) return runtime.list(joined(runtime, a, b));
    if (is_tuple(a) && is_tuple(b)) return runtime.tuple(joined(runtime, a, b));
  }
  fail_operands(op, a, b);
}

Value negative(const Value& value) {
  require_defined(value);
  if (value.is_floating()) return Value::floating(-value.as_double());
  if (!value.is_integral()) {
    fail("bad operand type for unary -: '" + std::string(value.type_name()) + "'");
  }
  return whole(checked_mul<std::int64_t>(value.as_integer(), -1));
}

Value positive(const Value& value) {
  require_defined(value);
  if (value.is_floating()) return value;
  if (!value.is_integral()) {
    fail("bad operand type for unary +: '" + std::string(value.type_name()) + "'");
  }
  return Value::integer(value.as_integer());
}

}  // namespace metal_candle::jinja
