// Python's operators and protocols over template values: truth, equality, order, arithmetic, iteration,
// attribute and item lookup. Errors are those Python raises, as Error(invalid_argument).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/value.h"

namespace metal_candle::jinja {

enum class BinaryOp { add, subtract, multiply, divide, floor_divide, modulo, power };
enum class CompareOp { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

bool truthy(const Value& value);
bool equal(Runtime& runtime, const Value& a, const Value& b);
/// The order of two values by `op`, which is one of the four inequalities.
bool ordered(Runtime& runtime, CompareOp op, const Value& a, const Value& b);
bool contains(Runtime& runtime, const Value& container, const Value& item);
bool compare(Runtime& runtime, CompareOp op, const Value& a, const Value& b);

Value arithmetic(Runtime& runtime, BinaryOp op, const Value& a, const Value& b);
Value negative(const Value& value);
Value positive(const Value& value);

/// What a for loop would yield: items, keys, characters. Reads an iterator to its end.
std::vector<Value> iterate(Runtime& runtime, const Value& value);
/// len(); throws for what has none.
std::int64_t length(const Value& value);

/// `value.name`: attribute, then item, else undefined.
Value get_attribute(Runtime& runtime, const Value& value, std::string_view name);
/// `value[key]`: item, then attribute, else undefined.
Value get_item(Runtime& runtime, const Value& value, const Value& key);
/// `value[start:stop:step]`; none where absent.
Value get_slice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
                const Value& step);
Value call(Runtime& runtime, const Value& callee, const Arguments& arguments);

/// Stable sort by `keys` (same length as `items`), as Python's sorted().
std::vector<Value> sorted(Runtime& runtime, const std::vector<Value>& items, const std::vector<Value>& keys,
                          bool reverse);

/// Throws where `value` is undefined, with its message.
void require_defined(const Value& value);

}  // namespace metal_candle::jinja
