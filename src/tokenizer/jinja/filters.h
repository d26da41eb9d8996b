// The tables of filters by subject; library.cpp searches them.
#pragma once

#include <functional>
#include <span>

#include "tokenizer/jinja/methods.h"

namespace metal_candle::jinja {

std::span<const NamedFunction> text_filters() noexcept;
std::span<const NamedFunction> sequence_filters() noexcept;
std::span<const NamedFunction> selection_filters() noexcept;
std::span<const NamedFunction> value_filters() noexcept;

/// Python's str.lower() for strings, others as they are.
Value ignore_case(Runtime& runtime, const Value& value);
/// What `attribute` ("a.b.0", an int, or none: the item itself) reads from `item`. Where `otherwise` is given
/// it stands in for what is undefined on the way.
Value read_path(Runtime& runtime, const Value& item, const Value& attribute,
                const Value* otherwise = nullptr);

}  // namespace metal_candle::jinja
