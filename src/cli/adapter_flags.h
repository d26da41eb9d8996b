// The flag --adapter of the verbs that run a model.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "metal_candle/adapter.h"

namespace metal_candle::cli {

/// "NAME=PATH[:SCALE]": the number after the last colon is the scale, if it is one. Throws
/// Error(invalid_argument).
struct NamedAdapter {
  std::string name;
  std::filesystem::path path;
  float scale = 1;
  static NamedAdapter parse(const std::string& text);
};

/// --adapter, repeatable.
struct AdapterFlags {
  std::vector<std::string> texts;

  void add_to(CLI::App& app);
  std::vector<NamedAdapter> parse() const;
  /// All of them, loaded, as a weighted sum; nothing given: none.
  std::vector<AdapterUse> load() const;
};

}  // namespace metal_candle::cli
