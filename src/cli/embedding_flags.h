// What embed, similarity and rerank have in common: which model, and how it computes.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "cli/adapter_flags.h"
#include "metal_candle/embed.h"

namespace metal_candle::cli {

/// --model, --threads, --dtype, --max-length.
struct EmbeddingFlags {
  std::string model;
  unsigned threads = 0;
  std::string dtype = "bf16";
  std::size_t max_length = 0;

  /// `required`: there is no other place to take the model from.
  void add_to(CLI::App& app, bool required = true);
  EmbeddingLoadOptions options() const;
  std::shared_ptr<EmbeddingModel> load() const { return EmbeddingModel::load(model, options()); }
};

/// --prompt-name, --prompt, --dimensions, --normalize, --truncate, --adapter.
struct EmbedFlags {
  EmbedOptions options;
  AdapterFlags adapters;
  std::string prompt, truncate = "right";
  CLI::Option* prompt_option = nullptr;

  void add_to(CLI::App& app);
  /// Loads the adapters.
  EmbedOptions resolve() const;
};

}  // namespace metal_candle::cli
