// Errors of this room whose messages hold text from files or users: kept to one line of sane length.
#pragma once

#include <string>

#include "metal_candle/error.h"

namespace metal_candle {

/// Throws Error. Control characters of `message` become \xNN, invalid UTF-8 U+FFFD; beyond 500 bytes it is
/// cut.
[[noreturn]] void fail_tokenizer(ErrorCode code, const std::string& message);

}  // namespace metal_candle
