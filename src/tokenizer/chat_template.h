// A model's chat template: conversation in, prompt text out. It speaks Jinja as Python's jinja2 does under
// transformers' settings; it knows nothing of tokens.
#pragma once

#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/json.h"
#include "tokenizer/jinja/limits.h"

namespace metal_candle {

struct ChatTemplateOptions {
  jinja::Limits limits;
  /// Local time for strftime_now(); empty: the system's clock.
  std::function<std::tm()> clock;
};

/// Compiled once, immutable, cheap to copy; render() may be called from any thread.
class ChatTemplate {
 public:
  /// Throws Error(malformed_file) on a syntax error and Error(unsupported) on a construct we do not have;
  /// both name the line.
  explicit ChatTemplate(std::string_view source, ChatTemplateOptions options = {});

  /// The prompt for `messages` (an array of objects with "role" and "content" and whatever else the template
  /// reads). `tools`: an array of JSON schemas, or null. `extra`: an object of further variables (bos_token,
  /// eos_token, enable_thinking, documents, ...), which win over the ones above.
  /// Templates print schemas with their keys in order, hence OrderedJson: a plain Json converts, but sorted.
  /// As in transformers, `tools` and `documents` are defined and none where absent.
  /// Throws Error(invalid_argument) with the template's own message (raise_exception) or what went wrong and
  /// where; Error(unsupported) names a filter, test or method we do not have.
  std::string render(const OrderedJson& messages, const OrderedJson& tools = nullptr,
                     bool add_generation_prompt = true,
                     const OrderedJson& extra = OrderedJson::object()) const;

  const std::string& source() const noexcept;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace metal_candle
