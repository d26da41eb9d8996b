// The filters, tests and global functions by name.
#pragma once

#include <string_view>

#include "tokenizer/jinja/methods.h"

namespace metal_candle::jinja {

/// Each null if there is none of that name.
const NamedFunction* find_filter(std::string_view name) noexcept;
const NamedFunction* find_test(std::string_view name) noexcept;
const NamedFunction* find_global(std::string_view name) noexcept;

}  // namespace metal_candle::jinja
