// Tokens to syntax tree. Unknown tags are errors here; unknown filters and tests only where they run, since
// templates guard features by `if`.
#pragma once

#include <string_view>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/limits.h"

namespace metal_candle::jinja {

/// Throws Error(malformed_file) or Error(unsupported), naming the line.
ast::Body parse(std::string_view source, const Limits& limits);

}  // namespace metal_candle::jinja
