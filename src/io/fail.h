// How the readers of model files refuse them: one line naming the file and, if there is one, the tensor.
#pragma once

#include <string>
#include <string_view>

#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {

[[noreturn]] inline void fail_file(std::string_view file, const std::string& why,
                                   ErrorCode code = ErrorCode::malformed_file) {
  throw Error(code, quote_path(file) + ": " + why);
}

[[noreturn]] inline void fail_tensor(std::string_view file, std::string_view tensor, const std::string& why,
                                     ErrorCode code = ErrorCode::malformed_file) {
  fail_file(file, "tensor " + quote(tensor) + " " + why, code);
}

}  // namespace metal_candle
