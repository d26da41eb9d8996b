// train's settings from a YAML file: mlx-lm's keys, or the names of the flags.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace metal_candle::cli {

/// Gives the options of `app` that the command line left alone the values of the file. Throws
/// Error(not_found | malformed_file | unsupported) naming file and key: none is ignored.
void apply_settings(CLI::App& app, const std::string& file);

}  // namespace metal_candle::cli
