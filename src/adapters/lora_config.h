// PEFT's adapter_config.json: what it says of each module. A field that changes the result and is not
// honoured here is an error that names it. Weights are peft_format.h's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/json.h"
#include "tokenizer/regex.h"

namespace metal_candle {

/// An expression that must match a whole text, as Python's re.fullmatch takes it.
class FullMatch {
 public:
  /// Throws Error(unsupported) naming `where`.
  FullMatch(const std::string& expression, const std::string& where);
  /// Throws Error(unsupported) likewise if the expression takes too long.
  bool operator()(std::string_view text) const;

 private:
  std::string name_;
  Regex regex_;
};

/// Immutable.
class LoraConfig {
 public:
  /// `file` names it in messages. Throws Error(malformed_file | unsupported) naming file and field.
  static LoraConfig parse(std::string_view text, const std::string& file);

  bool use_dora() const noexcept { return use_dora_; }
  bool lora_bias() const noexcept { return lora_bias_; }
  const std::string& base_model() const noexcept { return base_model_; }

  /// Rank of the module of this name, and the factor of its product.
  std::size_t rank(std::string_view module) const;
  double scale(std::string_view module) const;

  /// Whether PEFT would give the module matrices. `output`: it is the model's output layer, and `embedding`
  /// its table, which "all-linear" leaves out.
  bool targets(std::string_view module, bool output, bool embedding) const;
  /// Whether modules_to_save names it.
  bool saves(std::string_view module) const;
  /// Tokens whose embedding is stored anew; ascending; empty for other modules.
  std::vector<std::uint32_t> trainable_tokens(std::string_view module) const;

 private:
  using Pattern = std::pair<FullMatch, double>;
  struct Modules {  // a list of endings, or one expression
    std::vector<std::string> names;
    std::optional<FullMatch> expression;
    bool all_linear = false;
    bool match(std::string_view module) const;
  };
  explicit LoraConfig(const std::string& file) : file_(file) {}
  void read(const OrderedJson& json);
  void refuse_what_is_not_honoured(const OrderedJson& json) const;
  std::vector<Pattern> patterns(const OrderedJson& json, const char* key) const;
  Modules modules(const OrderedJson& json, const char* key) const;
  bool in_layers(std::string_view module) const;
  [[noreturn]] void fail(ErrorCode code, const std::string& field, const std::string& why) const;

  std::string file_;
  double r_ = 8, alpha_ = 8;
  bool use_rslora_ = false, use_dora_ = false, lora_bias_ = false;
  std::vector<Pattern> rank_pattern_, alpha_pattern_;
  Modules target_, exclude_;
  std::vector<FullMatch> saved_;
  std::optional<std::vector<std::int64_t>> layers_;
  std::vector<Regex> layers_patterns_;
  std::vector<std::pair<std::string, std::vector<std::uint32_t>>> trainable_tokens_;
  std::string base_model_;
};

}  // namespace metal_candle
