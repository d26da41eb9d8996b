// The tests: `value is name(...)`.
#include <algorithm>

#include "tokenizer/jinja/library.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"

namespace metal_candle::jinja {
namespace {

template <bool (*Predicate)(const Value&)>
Value simple(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("the test", arguments, {});
  return Value::boolean(Predicate(self));
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_boolean(const Value& v) { return v.is_boolean(); }
bool is_true(const Value& v) { return v.is_boolean() && v.as_integer() != 0; }
bool is_false(const Value& v) { return v.is_boolean() && v.as_integer() == 0; }
bool is_integer(const Value& v) { return v.is_integral() && !v.is_boolean(); }
bool is_float(const Value& v) { return v.is_floating(); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is_string(); }
bool is_escaped(const Value& v) { return v.is_markup(); }
bool is_mapping(const Value& v) { return v.is_dict(); }
// As in jinja2, an undefined value has a length and items, and can be called.
bool is_sequence(const Value& v) {
  if (v.is_sequence()) {
    return v.as_sequence()->kind != SequenceKind::view && v.as_sequence()->kind != SequenceKind::iterator;
  }
  return v.is_string() || v.is_dict() || v.is_undefined();
}
bool is_iterable(const Value& v) {
  return v.is_sequence() || v.is_string() || v.is_dict() || v.is_undefined();
}
bool is_callable(const Value& v) { return v.is_undefined() || (v.is_object() && v.as_object()->callable()); }

template <CompareOp Op>
Value compared(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("the test", arguments, {"other"}, 1);
  return Value::boolean(compare(runtime, Op, self, *bound[0]));
}

Value remainder_is(Runtime& runtime, const Value& self, const Value& divisor, std::int64_t wanted) {
  const Value rest = arithmetic(runtime, BinaryOp::modulo, self, divisor);
  return Value::boolean(equal(runtime, rest, Value::integer(wanted)));
}

Value is_odd(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("odd", arguments, {});
  return remainder_is(runtime, self, Value::integer(2), 1);
}

Value is_even(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("even", arguments, {});
  return remainder_is(runtime, self, Value::integer(2), 0);
}

Value is_divisible_by(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("divisibleby", arguments, {"num"}, 1);
  return remainder_is(runtime, self, *bound[0], 0);
}

Value is_in(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("in", arguments, {"seq"}, 1);
  return Value::boolean(contains(runtime, *bound[0], self));
}

// str(value).islower() and .isupper().
template <bool Upper>
Value has_case(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Value s = to_string(runtime, self);
  return call(runtime, get_attribute(runtime, s, Upper ? "isupper" : "islower"), arguments);
}

Value is_same(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("sameas", arguments, {"other"}, 1);
  const Value& other = *bound[0];
  if (self.is_boolean() && other.is_boolean()) return Value::boolean(self.as_integer() == other.as_integer());
  if (self.is_none() || other.is_none()) return Value::boolean(self.is_none() && other.is_none());
  if (self.is_object() && other.is_object()) return Value::boolean(self.as_object() == other.as_object());
  if (self.type_name() != other.type_name()) return Value::boolean(false);
  fail_unsupported("'sameas' between values of type " + std::string(self.type_name()) + " is not supported");
}

Value filter_exists(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("filter", arguments, {});
  return Value::boolean(self.is_string() && find_filter(self.as_string()) != nullptr);
}

Value test_exists(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("test", arguments, {});
  return Value::boolean(self.is_string() && find_test(self.as_string()) != nullptr);
}

// Sorted by name.
constexpr NamedFunction kTests[] = {
    {"!=", compared<CompareOp::not_equal>},
    {"<", compared<CompareOp::less>},
    {"<=", compared<CompareOp::less_equal>},
    {"==", compared<CompareOp::equal>},
    {">", compared<CompareOp::greater>},
    {">=", compared<CompareOp::greater_equal>},
    {"boolean", simple<is_boolean>},
    {"callable", simple<is_callable>},
    {"defined", simple<is_defined>},
    {"divisibleby", is_divisible_by},
    {"eq", compared<CompareOp::equal>},
    {"equalto", compared<CompareOp::equal>},
    {"escaped", simple<is_escaped>},
    {"even", is_even},
    {"false", simple<is_false>},
    {"filter", filter_exists},
    {"float", simple<is_float>},
    {"ge", compared<CompareOp::greater_equal>},
    {"greaterthan", compared<CompareOp::greater>},
    {"gt", compared<CompareOp::greater>},
    {"in", is_in},
    {"integer", simple<is_integer>},
    {"iterable", simple<is_iterable>},
    {"le", compared<CompareOp::less_equal>},
    {"lessthan", compared<CompareOp::less>},
    {"lower", has_case<false>},
    {"lt", compared<CompareOp::less>},
    {"mapping", simple<is_mapping>},
    {"ne", compared<CompareOp::not_equal>},
    {"none", simple<is_none>},
    {"number", simple<is_number>},
    {"odd", is_odd},
    {"sameas", is_same},
    {"sequence", simple<is_sequence>},
    {"string", simple<is_string>},
    {"test", test_exists},
    {"true", simple<is_true>},
    {"undefined", simple<is_undefined>},
    {"upper", has_case<true>},
};

}  // namespace

const NamedFunction* find_test(std::string_view name) noexcept { return find_function(kTests, name); }

}  // namespace metal_candle::jinja
