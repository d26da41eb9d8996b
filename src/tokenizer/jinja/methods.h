// Methods of the built-in types: str, list, tuple, dict. Those that would change their owner are refused, as
// in jinja2's immutable sandbox, which transformers uses.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/value.h"

namespace metal_candle::jinja {

struct NamedFunction {
  std::string_view name;
  Function function;
};

/// Null if there is none of that name.
const NamedFunction* find_function(std::span<const NamedFunction> table, std::string_view name) noexcept;

/// `value.name` bound to `value`; nothing if the type has no such attribute in Python.
/// Throws Error(unsupported) for one that Python has and we have not.
std::optional<Value> find_method(Runtime& runtime, const Value& value, std::string_view name);

std::span<const NamedFunction> string_methods() noexcept;

}  // namespace metal_candle::jinja
