// map, select, reject and their attr forms: filters that run other filters and tests by name.
#include <algorithm>

#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/library.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

/// The arguments behind the first `count` positional ones.
Arguments rest_of(const Arguments& arguments, std::size_t count) {
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(count),
                         arguments.positional.end());
  rest.named = arguments.named;
  return rest;
}

const std::string& name_of(const Value& value) {
  if (!value.is_string()) fail("the name of a filter or test must be a str");
  return value.as_string();
}

Value map_attribute(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("map", arguments, {"attribute", "default"}, 1);
  const Value* otherwise = bound.given(1) && !bound[1]->is_none() ? bound[1] : nullptr;
  std::vector<Value> out;
  for (const Value& item : iterate(runtime, self))
    out.push_back(read_path(runtime, item, *bound[0], otherwise));
  return runtime.iterator(std::move(out));
}

Value map(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (!truthy(self)) return runtime.iterator({});
  if (arguments.positional.empty() && arguments.find("attribute") != nullptr) {
    return map_attribute(runtime, self, arguments);
  }
  if (arguments.positional.empty()) fail("map requires a filter argument");
  const std::string& name = name_of(arguments.positional[0]);
  const NamedFunction* filter = find_filter(name);
  if (filter == nullptr) fail_unsupported("the filter '" + name + "' is not supported");
  const Arguments rest = rest_of(arguments, 1);
  const Runtime::Nesting nesting(runtime);  // map('map', 'map', ...) goes deeper with each name
  std::vector<Value> out;
  for (const Value& item : iterate(runtime, self)) {
    runtime.charge(32);
    out.push_back(filter->function(runtime, item, rest));
  }
  return runtime.iterator(std::move(out));
}

/// Keeps the items whose (attribute's) test, or truth where no test is named, equals `Wanted`.
template <bool Wanted, bool ByAttribute>
Value select(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (!truthy(self)) return runtime.iterator({});
  constexpr std::size_t kSkipped = ByAttribute ? 1 : 0;
  if (arguments.positional.size() < kSkipped) fail("Missing parameter for attribute name");
  const NamedFunction* test = nullptr;
  Arguments rest;
  if (arguments.positional.size() > kSkipped) {
    const std::string& name = name_of(arguments.positional[kSkipped]);
    test = find_test(name);
    if (test == nullptr) fail_unsupported("the test '" + name + "' is not supported");
    rest = rest_of(arguments, kSkipped + 1);
  }
  std::vector<Value> out;
  for (const Value& item : iterate(runtime, self)) {
    runtime.charge(32);
    const Value tested = ByAttribute ? read_path(runtime, item, arguments.positional[0]) : item;
    const Value result = test == nullptr ? tested : test->function(runtime, tested, rest);
    if (truthy(result) == Wanted) out.push_back(item);
  }
  return runtime.iterator(std::move(out));
}

constexpr NamedFunction kFilters[] = {{"map", map},
                                      {"reject", select<false, false>},
                                      {"rejectattr", select<false, true>},
                                      {"select", select<true, false>},
                                      {"selectattr", select<true, true>}};

}  // namespace

Value read_path(Runtime& runtime, const Value& item, const Value& attribute, const Value* otherwise) {
  if (attribute.is_none()) return item;
  std::vector<Value> parts{attribute};
  if (attribute.is_string()) {
    parts.clear();
    for (const std::string_view part : text::split(attribute.as_string(), ".", -1)) {
      const bool is_index =
          !part.empty() && part.size() < 18 &&
          std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
      parts.push_back(is_index ? Value::integer(std::stoll(std::string(part)))
                               : Value::string(std::string(part)));
    }
    runtime.charge(attribute.as_string().size() + parts.size() * sizeof(Value));
  }
  Value value = item;
  for (const Value& part : parts) {
    value = get_item(runtime, value, part);
    if (otherwise != nullptr && value.is_undefined()) value = *otherwise;
  }
  return value;
}

std::span<const NamedFunction> selection_filters() noexcept { return kFilters; }

}  // namespace metal_candle::jinja
