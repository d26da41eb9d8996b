// Small text files that may be absent, such as the JSON beside a checkpoint.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace metal_candle {

/// The whole file; empty if there is none. Throws as MappedFile::open does if it cannot be read.
std::optional<std::string> read_text_file(const std::filesystem::path& path);

}  // namespace metal_candle
