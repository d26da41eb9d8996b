// Names from files made fit for a one-line message: escaped and shortened. No other formatting.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace metal_candle {

/// "name" in double quotes; bytes outside printable ASCII as \xNN; at most 120 bytes of `text`, then "...".
std::string quote(std::string_view text);

/// A path for a message: escaped likewise, neither quoted nor shortened.
std::string quote_path(const std::filesystem::path& path);

}  // namespace metal_candle
