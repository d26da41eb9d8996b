// Bytes in, whole characters out: holds back the start of a character until the rest has come.
#pragma once

#include <string>
#include <string_view>

namespace metal_candle {

/// One per stream; not thread-safe.
class Utf8Stream {
 public:
  /// Characters completed by `bytes`; bad sequences as U+FFFD (by maximal subparts, see read_utf8).
  std::string push(std::string_view bytes);
  /// What is held back, as U+FFFD. The stream is then empty.
  std::string flush();

 private:
  std::string held_;  // at most 3 bytes between calls
};

}  // namespace metal_candle
