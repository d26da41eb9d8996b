// From one line of training data to tokens and what of them counts. It reads no files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "metal_candle/tokenizer.h"
#include "metal_candle/train.h"
#include "tokenizer/chat_template.h"

namespace metal_candle {

/// Immutable; any thread.
class ExampleEncoder {
 public:
  /// `tokenizer` is not null.
  ExampleEncoder(std::shared_ptr<const Tokenizer> tokenizer, std::optional<ChatTemplate> chat_template,
                 const Dataset::Options& options);

  /// Whether a line has the fields of one of the forms. Throws Error(malformed_file) naming `where`.
  static void check(const OrderedJson& line, const std::string& where);

  /// The example of a checked line. Throws Error(malformed_file | unsupported) naming `where`, e.g. for a
  /// conversation that the chat template refuses.
  TrainingExample encode(const OrderedJson& line, const std::string& where) const;

 private:
  TrainingExample conversation(const OrderedJson& messages, const OrderedJson& tools,
                               const std::string& where) const;
  TrainingExample plain(std::string_view prompt, std::string_view completion) const;
  std::string render(const OrderedJson& messages, const OrderedJson& tools, bool prompt) const;
  void append(TrainingExample& out, std::string_view text, bool counts, bool special) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  Dataset::Options options_;
  OrderedJson variables_;  // of the template
};

}  // namespace metal_candle
