// Flags that several verbs share, and what they mean for the library.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/generate.h"
#include "metal_candle/model.h"

namespace metal_candle::cli {

/// --threads, in the group "Model".
void add_threads(CLI::App& app, unsigned& threads);

/// --model, --threads, --device, --ctx-size, --kv-dtype.
struct ModelFlags {
  std::string model;
  unsigned threads = 0;
  std::string device = "auto";
  std::uint32_t context_size = 0;
  std::string kv_dtype = "f16";

  /// `positional` also takes the model as the verb's first argument.
  void add_to(CLI::App& app, bool positional = false);
  LoadOptions options() const;
  KvDType kv() const;
  /// Loads with a progress bar.
  std::shared_ptr<Model> load() const;
};

/// --temp, --top-k, ..., --max-tokens, --stop.
struct GenerationFlags {
  GenerateOptions options;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID=BIAS"

  void add_to(CLI::App& app);
  /// Throws Error(invalid_argument) naming the flag.
  GenerateOptions resolve() const;
};

/// A check for integer flags: at least `least`, at most 2^30.
CLI::Validator count_from(std::uint32_t least);

/// Everything in a file; "-" is standard input. Throws Error.
std::string read_text_file(const std::string& path);

/// Calls line(text, number) for each line of standard input, or of `path` if it is neither empty nor "-".
/// A line ends at \n only and is passed without it; a last line without \n counts.
void for_each_line(const std::string& path, const std::function<void(std::string_view, std::size_t)>& line);

/// Size of the file that for_each_line would read; 0 if it cannot be known.
std::uint64_t input_bytes(const std::string& path);

/// A conversation as token ids: the model's own template, which writes its special tokens itself.
std::vector<std::int32_t> chat_tokens(const Model& model, const std::vector<ChatMessage>& messages);

}  // namespace metal_candle::cli
