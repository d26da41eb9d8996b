// Lookup of methods, and those of lists, tuples and dicts; str has string_methods.cpp.
#include "tokenizer/jinja/methods.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tokenizer/jinja/operators.h"

namespace metal_candle::jinja {
namespace {

using Names = std::span<const std::string_view>;

Value view(Runtime& runtime, std::string_view label, std::vector<Value> items) {
  return runtime.sequence(SequenceKind::view, std::move(items), std::string(label));
}

Value dict_keys(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("keys", arguments, {});
  return view(runtime, "dict_keys", iterate(runtime, self));
}

Value dict_values(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("values", arguments, {});
  std::vector<Value> items;
  for (const auto& entry : self.as_dict()->entries()) items.push_back(entry.second);
  return view(runtime, "dict_values", std::move(items));
}

Value dict_items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.as_dict()->entries()) items.push_back(runtime.tuple({key, value}));
  return view(runtime, "dict_items", std::move(items));
}

Value dict_get(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (!arguments.named.empty()) fail("get() takes no keyword arguments");
  const Bound bound("get", arguments, {"key", "default"}, 1);
  const Value* found = self.as_dict()->find(runtime, *bound[0]);
  return found != nullptr ? *found : bound.given(1) ? *bound[1] : Value();
}

// Values never change, so a copy is the value itself.
Value copy(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("copy", arguments, {});
  return self;
}

Value sequence_count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("count", arguments, {"value"}, 1);
  const auto& items = self.as_sequence()->items;
  return Value::integer(std::count_if(items.begin(), items.end(),
                                      [&](const Value& v) { return equal(runtime, v, *bound[0]); }));
}

Value sequence_index(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("index", arguments, {"value", "start", "stop"}, 1);
  const auto& items = self.as_sequence()->items;
  const auto size = static_cast<std::int64_t>(items.size());
  const auto clamp = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? at + size : at, 0, size);
  };
  for (std::int64_t i = clamp(bound.integer(1, 0)); i < clamp(bound.integer(2, size)); ++i) {
    if (equal(runtime, items[static_cast<std::size_t>(i)], *bound[0])) return Value::integer(i);
  }
  fail("the value is not in the " + std::string(self.type_name()));
}

Value is_integer(Runtime&, const Value& self, const Arguments& arguments) {
  const Bound bound("is_integer", arguments, {});
  return Value::boolean(std::isfinite(self.as_double()) && std::floor(self.as_double()) == self.as_double());
}

constexpr NamedFunction kDict[] = {{"copy", copy},        {"fromkeys", nullptr}, {"get", dict_get},
                                   {"items", dict_items}, {"keys", dict_keys},   {"values", dict_values}};
constexpr NamedFunction kList[] = {{"copy", copy}, {"count", sequence_count}, {"index", sequence_index}};
constexpr NamedFunction kTuple[] = {{"count", sequence_count}, {"index", sequence_index}};
constexpr NamedFunction kRange[] = {{"count", sequence_count},
                                    {"index", sequence_index},
                                    {"start", nullptr},
                                    {"step", nullptr},
                                    {"stop", nullptr}};
constexpr NamedFunction kView[] = {{"isdisjoint", nullptr}, {"mapping", nullptr}};
constexpr NamedFunction kIterator[] = {{"close", nullptr}, {"send", nullptr}, {"throw", nullptr}};
constexpr NamedFunction kInt[] = {{"as_integer_ratio", nullptr},
                                  {"bit_count", nullptr},
                                  {"bit_length", nullptr},
                                  {"conjugate", nullptr},
                                  {"denominator", nullptr},
                                  {"from_bytes", nullptr},
                                  {"imag", nullptr},
                                  {"numerator", nullptr},
                                  {"real", nullptr},
                                  {"to_bytes", nullptr}};
constexpr NamedFunction kFloat[] = {{"as_integer_ratio", nullptr},
                                    {"conjugate", nullptr},
                                    {"fromhex", nullptr},
                                    {"hex", nullptr},
                                    {"imag", nullptr},
                                    {"is_integer", is_integer},
                                    {"real", nullptr}};

constexpr std::string_view kDictMutators[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListMutators[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};

std::span<const NamedFunction> methods_of(const Value& value) {
  if (value.is_string()) return string_methods();
  if (value.is_dict()) return kDict;
  if (value.is_integral()) return kInt;
  if (value.is_floating()) return kFloat;
  if (!value.is_sequence()) return {};
  switch (value.as_sequence()->kind) {
    case SequenceKind::list: return kList;
    case SequenceKind::range: return kRange;
    case SequenceKind::view: return kView;
    case SequenceKind::iterator: return kIterator;
    default: return kTuple;
  }
}

Names mutators_of(const Value& value) {
  if (value.is_dict()) return kDictMutators;
  if (value.is_sequence() && value.as_sequence()->kind == SequenceKind::list) return kListMutators;
  return {};
}

}  // namespace

const NamedFunction* find_function(std::span<const NamedFunction> table, std::string_view name) noexcept {
  const auto at =
      std::lower_bound(table.begin(), table.end(), name,
                       [](const NamedFunction& entry, std::string_view key) { return entry.name < key; });
  return at != table.end() && at->name == name ? &*at : nullptr;
}

std::optional<Value> find_method(Runtime& runtime, const Value& value, std::string_view name) {
  const NamedFunction* method = find_function(methods_of(value), name);
  const std::string described = "'" + std::string(name) + "' of '" + std::string(value.type_name()) + "'";
  // These escape their arguments.
  if (value.is_markup() && (name == "format" || name == "join" || name == "replace")) {
    fail_unsupported("the method " + described + " text marked as safe");
  }
  if (method != nullptr && method->function != nullptr) {
    return runtime.function(method->name, method->function, value);
  }
  if (method != nullptr) fail_unsupported("the attribute " + described + " is not supported");
  const Names mutators = mutators_of(value);
  if (std::find(mutators.begin(), mutators.end(), name) != mutators.end()) {
    return Value::undefined("access to attribute " + described + " object is unsafe.");
  }
  if (value.is_sequence() && value.as_sequence()->kind == SequenceKind::group) {
    if (name == "grouper") return value.as_sequence()->items[0];
    if (name == "list") return value.as_sequence()->items[1];
  }
  return std::nullopt;
}

}  // namespace metal_candle::jinja
