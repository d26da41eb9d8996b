// Cuts a template into tokens, with jinja2's white-space rules under trim_blocks and lstrip_blocks.
// It knows nothing of grammar beyond balanced brackets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle::jinja {

enum class TokenType {
  data,            ///< text between tags
  block_begin,     ///< {%
  block_end,       ///< %}
  variable_begin,  ///< {{
  variable_end,    ///< }}
  name,
  string,
  integer,
  floating,
  symbol,  ///< an operator or bracket, in `text`
  end,
};

struct Token {
  TokenType type;
  std::string text = {};  ///< decoded, for strings
  std::int64_t integer = 0;
  double floating = 0;
  int line = 0;
};

/// The last token is `end`. Throws Error(malformed_file) naming the line.
std::vector<Token> tokenize(std::string_view source);

/// A message cut to one line of bounded length; templates write into messages.
std::string one_line(std::string message);

/// Throws Error(malformed_file) or Error(unsupported) with "chat template, line N: message".
[[noreturn]] void fail_syntax(int line, const std::string& message);
[[noreturn]] void fail_unsupported_syntax(int line, const std::string& message);

}  // namespace metal_candle::jinja
