#include "tokenizer/jinja/operators.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tokenizer/jinja/methods.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

bool is_tuple(const Sequence& s) { return s.kind == SequenceKind::tuple || s.kind == SequenceKind::group; }
bool is_indexed(const Sequence& s) {
  return s.kind != SequenceKind::view && s.kind != SequenceKind::iterator;
}

int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return (a.as_integer() > b.as_integer()) - (a.as_integer() < b.as_integer());
  }
  return (a.as_double() > b.as_double()) - (a.as_double() < b.as_double());
}

bool has_nan(const Value& a, const Value& b) {
  return std::isnan(a.as_double()) || std::isnan(b.as_double());
}

[[noreturn]] void fail_order(CompareOp op, const Value& a, const Value& b) {
  static constexpr const char* kNames[] = {"==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  require_defined(a);
  require_defined(b);
  fail(std::string("'") + kNames[static_cast<int>(op)] + "' not supported between instances of '" +
       std::string(a.type_name()) + "' and '" + std::string(b.type_name()) + "'");
}

template <typename T>
bool apply(CompareOp op, T a, T b) {
  switch (op) {
    case CompareOp::less: return a < b;
    case CompareOp::less_equal: return a <= b;
    case CompareOp::greater: return a > b;
    default: return a >= b;
  }
}

std::string quoted(std::string_view name) { return "'" + std::string(name) + "'"; }

std::string describe(const Value& value) {
  if (value.is_none()) return "'None'";
  return "'" + std::string(value.type_name()) + " object'";
}

/// Index of an element, counted from the end if negative; none if outside.
std::optional<std::size_t> element(std::int64_t index, std::size_t size) {
  if (index < 0) index += static_cast<std::int64_t>(size);
  if (index < 0 || index >= static_cast<std::int64_t>(size)) return std::nullopt;
  return static_cast<std::size_t>(index);
}

std::optional<Value> find_item(Runtime& runtime, const Value& value, const Value& key) {
  if (value.is_dict()) {
    if (key.depth() > 0 && key.is_sequence() && !is_tuple(*key.as_sequence())) return std::nullopt;
    if (key.is_dict()) return std::nullopt;
    const Value* found = value.as_dict()->find(runtime, key);
    return found == nullptr ? std::nullopt : std::optional(*found);
  }
  if (!key.is_integral()) return std::nullopt;
  if (value.is_string()) {
    const std::string& s = value.as_string();
    runtime.charge(s.size());
    const auto at = element(key.as_integer(), text::length(s));
    if (!at) return std::nullopt;
    const std::size_t begin = text::offset(s, *at);
    return runtime.string_like(value, s.substr(begin, text::decode(s, begin).size));
  }
  if (value.is_sequence() && is_indexed(*value.as_sequence())) {
    const auto& items = value.as_sequence()->items;
    const auto at = element(key.as_integer(), items.size());
    return at ? std::optional(items[*at]) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<Value> find_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (value.is_object()) return value.as_object()->attribute(runtime, name);
  return find_method(runtime, value, name);
}

Value missing(Runtime& runtime, const Value& value, const Value& key) {
  std::string name;
  if (!key.is_string()) {
    append_repr(runtime, name, key);
    return Value::undefined(std::string(value.type_name()) + " object has no element " + name);
  }
  return Value::undefined(describe(value) + " has no attribute " + string_repr(key.as_string()));
}

}  // namespace

void require_defined(const Value& value) {
  if (value.is_undefined()) fail(value.undefined_message());
}

bool truthy(const Value& v) {
  if (v.is_none() || v.is_undefined()) return false;
  if (v.is_integral()) return v.as_integer() != 0;
  if (v.is_floating()) return v.as_double() != 0;
  if (v.is_string()) return !v.as_string().empty();
  if (v.is_dict()) return v.as_dict()->size() != 0;
  if (v.is_object()) return true;
  return v.as_sequence()->kind == SequenceKind::iterator || !v.as_sequence()->items.empty();
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.charge(1);
  if (a.is_number() && b.is_number()) return !has_nan(a, b) && compare_numbers(a, b) == 0;
  if (a.is_string() && b.is_string()) {
    if (a.string_ptr() == b.string_ptr()) return true;
    runtime.charge(std::min(a.as_string().size(), b.as_string().size()));
    return a.as_string() == b.as_string();
  }
  if (a.is_sequence() && b.is_sequence()) {
    const Sequence &x = *a.as_sequence(), &y = *b.as_sequence();
    if (&x == &y) return true;
    const bool comparable = (x.kind == y.kind || (is_tuple(x) && is_tuple(y))) && is_indexed(x);
    return comparable && x.items.size() == y.items.size() &&
           std::equal(x.items.begin(), x.items.end(), y.items.begin(),
                      [&](const Value& m, const Value& n) { return equal(runtime, m, n); });
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.as_dict() == b.as_dict()) return true;
    if (a.as_dict()->size() != b.as_dict()->size()) return false;
    for (const auto& [key, value] : a.as_dict()->entries()) {
      const Value* other = b.as_dict()->find(runtime, key);
      if (other == nullptr || !equal(runtime, value, *other)) return false;
    }
    return true;
  }
  if (a.is_object() && b.is_object()) return a.as_object() == b.as_object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

bool ordered(Runtime& runtime, CompareOp op, const Value& a, const Value& b) {
  runtime.charge(1);
  if (a.is_number() && b.is_number()) return !has_nan(a, b) && apply(op, compare_numbers(a, b), 0);
  if (a.is_string() && b.is_string()) {
    runtime.charge(std::min(a.as_string().size(), b.as_string().size()));
    return apply(op, a.as_string().compare(b.as_string()), 0);  // UTF-8 sorts as its code points
  }
  if (!a.is_sequence() || !b.is_sequence()) fail_order(op, a, b);
  const Sequence &x = *a.as_sequence(), &y = *b.as_sequence();
  const bool comparable =
      (is_tuple(x) && is_tuple(y)) || (x.kind == SequenceKind::list && y.kind == SequenceKind::list);
  if (!comparable) fail_order(op, a, b);
  for (std::size_t i = 0; i < std::min(x.items.size(), y.items.size()); ++i) {
    if (!equal(runtime, x.items[i], y.items[i])) return ordered(runtime, op, x.items[i], y.items[i]);
  }
  return apply(op, x.items.size(), y.items.size());
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  if (container.is_string()) {
    require_defined(item);
    if (!item.is_string()) {
      fail("'in <string>' requires string as left operand, not " + std::string(item.type_name()));
    }
    runtime.charge(container.as_string().size() + item.as_string().size());
    return text::find(container.as_string(), item.as_string()) != std::string_view::npos;
  }
  if (container.is_dict()) return container.as_dict()->find(runtime, item) != nullptr;
  const bool is_iterator = container.is_sequence() && container.as_sequence()->kind == SequenceKind::iterator;
  if (container.is_sequence() && !is_iterator) {
    const auto& items = container.as_sequence()->items;
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& other) { return equal(runtime, other, item); });
  }
  if (!is_iterator && !container.is_undefined()) {
    fail("argument of type '" + std::string(container.type_name()) + "' is not iterable");
  }
  for (const Value& other : iterate(runtime, container)) {
    if (equal(runtime, other, item)) return true;
  }
  return false;
}

bool compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b) {
  switch (op) {
    case CompareOp::equal: return equal(runtime, a, b);
    case CompareOp::not_equal: return !equal(runtime, a, b);
    case CompareOp::in: return contains(runtime, b, a);
    case CompareOp::not_in: return !contains(runtime, b, a);
    default: return ordered(runtime, op, a, b);
  }
}

std::vector<Value> iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> out;
  if (value.is_sequence()) {
    Sequence& s = *value.as_sequence();
    runtime.charge(s.items.size() * sizeof(Value));
    if (s.kind != SequenceKind::iterator) return s.items;
    if (!s.spent) out.swap(s.items);
    s.spent = true;
  } else if (value.is_dict()) {
    runtime.charge(value.as_dict()->size() * sizeof(Value));
    for (const auto& entry : value.as_dict()->entries()) out.push_back(entry.first);
  } else if (value.is_string()) {
    const auto characters = text::characters(value.as_string());
    runtime.check_items(characters.size());
    runtime.charge(characters.size() * (sizeof(Value) + sizeof(std::string)));
    for (const std::string_view c : characters) out.push_back(Value::string(std::string(c)));
  } else if (!value.is_undefined()) {
    fail("'" + std::string(value.type_name()) + "' object is not iterable");
  }
  return out;
}

std::int64_t length(const Value& value) {
  if (value.is_string()) return static_cast<std::int64_t>(text::length(value.as_string()));
  if (value.is_dict()) return static_cast<std::int64_t>(value.as_dict()->size());
  if (value.is_undefined()) return 0;
  if (value.is_sequence() && value.as_sequence()->kind != SequenceKind::iterator) {
    return static_cast<std::int64_t>(value.as_sequence()->items.size());
  }
  fail("object of type '" + std::string(value.type_name()) + "' has no len()");
}

Value get_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  require_defined(value);
  if (auto found = find_attribute(runtime, value, name)) return *std::move(found);
  if (value.is_dict()) {
    runtime.charge(name.size());
    if (const Value* found = value.as_dict()->find(name)) return *found;
  }
  return missing(runtime, value, Value::string(std::string(name)));
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
  require_defined(value);
  if (auto found = find_item(runtime, value, key)) return *std::move(found);
  if (key.is_string()) {
    if (auto found = find_attribute(runtime, value, key.as_string())) return *std::move(found);
  }
  return missing(runtime, value, key);
}

Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step_value) {
  require_defined(value);
  const bool is_sequence = value.is_sequence() && is_indexed(*value.as_sequence());
  if (!is_sequence && !value.is_string()) return missing(runtime, value, Value::string("slice"));
  for (const Value* bound : {&start, &stop, &step_value}) {
    require_defined(*bound);
    if (!bound->is_none() && !bound->is_integral()) {
      fail("slice indices must be integers or None or have an __index__ method");
    }
  }
  const std::int64_t step = step_value.is_none() ? 1 : step_value.as_integer();
  if (step == 0) fail("slice step cannot be zero");
  std::vector<std::string_view> characters;
  if (value.is_string()) {
    runtime.charge(value.as_string().size() * 2);
    characters = text::characters(value.as_string());
  }
  const auto size =
      static_cast<std::int64_t>(is_sequence ? value.as_sequence()->items.size() : characters.size());
  const auto clamp = [&](const Value& bound, std::int64_t otherwise) {
    if (bound.is_none()) return otherwise;
    std::int64_t at = bound.as_integer();
    if (at < 0) at += size;
    return step > 0 ? std::clamp<std::int64_t>(at, 0, size) : std::clamp<std::int64_t>(at, -1, size - 1);
  };
  const std::int64_t first = clamp(start, step > 0 ? 0 : size - 1);
  const std::int64_t last = clamp(stop, step > 0 ? size : -1);
  const std::int64_t distance = step > 0 ? last - first : first - last;
  // A step beyond the distance gives one element, and `first + step` must not overflow.
  const std::int64_t stride = step > 0 ? std::min(step, size + 1) : std::max(step, -size - 1);
  // NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): size >= 0, so stride is not 0
  const std::int64_t count = distance <= 0 ? 0 : (distance - 1) / (stride > 0 ? stride : -stride) + 1;
  std::vector<Value> items;
  std::string out;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(first + i * stride);
    if (is_sequence) {
      items.push_back(value.as_sequence()->items[at]);
    } else {
      out += characters[at];
    }
  }
  if (!is_sequence) return runtime.string_like(value, std::move(out));
  const SequenceKind kind = value.as_sequence()->kind;
  return runtime.sequence(kind == SequenceKind::group   ? SequenceKind::tuple
                          : kind == SequenceKind::range ? SequenceKind::list
                                                        : kind,
                          std::move(items));
}

Value call(Runtime& runtime, const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  if (!callee.is_object()) fail(quoted(callee.type_name()) + " object is not callable");
  const Runtime::Nesting nesting(runtime);
  return callee.as_object()->call(runtime, arguments);
}

std::vector<Value> sorted(Runtime& runtime, const std::vector<Value>& items, const std::vector<Value>& keys,
                          bool reverse) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  // Mixed numbers with NaN are not a strict weak order; merge sort stays in bounds whatever the answers.
  std::vector<std::size_t> other(order.size());
  for (std::size_t width = 1; width < order.size(); width *= 2) {
    for (std::size_t begin = 0; begin < order.size(); begin += 2 * width) {
      const std::size_t middle = std::min(begin + width, order.size());
      const std::size_t end = std::min(begin + 2 * width, order.size());
      std::size_t left = begin, right = middle;
      for (std::size_t out = begin; out < end; ++out) {
        const bool take_right =
            left == middle || (right < end && ordered(runtime, reverse ? CompareOp::greater : CompareOp::less,
                                                      keys[order[right]], keys[order[left]]));
        other[out] = take_right ? order[right++] : order[left++];
      }
    }
    order.swap(other);
  }
  std::vector<Value> out;
  out.reserve(items.size());
  for (const std::size_t i : order) out.push_back(items[i]);
  return out;
}

}  // namespace metal_candle::jinja
