// Values as text: Python's str(), repr(), json.dumps() and its two format languages.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/jinja/runtime.h"
#include "tokenizer/jinja/value.h"

namespace metal_candle::jinja {

/// Python's float.__repr__: the shortest digits that read back the same.
std::string float_repr(double value);
std::string string_repr(std::string_view text);
void append_repr(Runtime& runtime, std::string& out, const Value& value);
/// str(value); a string is shared, not copied.
StringPtr to_string(Runtime& runtime, const Value& value);
void append_string(Runtime& runtime, std::string& out, const Value& value);

/// The text with & < > ' " as HTML entities.
std::string escape_html(std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;  ///< a line for each element
  std::string indent;   ///< of one level, if pretty
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
/// json.dumps(value); throws for what JSON cannot say.
void append_json(Runtime& runtime, std::string& out, const Value& value, const JsonStyle& style);

/// `format % arguments`, printf-style.
Value format_percent(Runtime& runtime, std::string_view format, const Value& arguments);
/// `format.format(...)`.
Value format_braces(Runtime& runtime, std::string_view format, const Arguments& arguments);

/// "%.*f"-like forms as Python writes them (nan, inf, signs left to the caller). `type` is one of e f g (E F
/// G).
std::string format_float(double value, char type, int precision, bool alternate);

}  // namespace metal_candle::jinja
