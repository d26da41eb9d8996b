#include "tokenizer/jinja/print.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

void append_escape(std::string& out, char32_t c) {
  std::array<char, 16> buffer{};
  const char* format = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
  std::snprintf(buffer.data(), buffer.size(), format, static_cast<unsigned>(c));
  out += buffer.data();
}

void append_sequence_repr(Runtime& runtime, std::string& out, const Sequence& s) {
  if (s.kind == SequenceKind::range) {
    out += s.label;
    return;
  }
  if (s.kind == SequenceKind::iterator) {
    out += "<generator object>";
    return;
  }
  const bool is_view = s.kind == SequenceKind::view;
  const bool is_list = is_view || s.kind == SequenceKind::list;
  if (is_view) out += s.label + "(";
  out += is_list ? '[' : '(';
  for (std::size_t i = 0; i < s.items.size(); ++i) {
    if (i > 0) out += ", ";
    append_repr(runtime, out, s.items[i]);
  }
  if (!is_list && s.items.size() == 1) out += ',';
  out += is_list ? ']' : ')';
  if (is_view) out += ')';
}

void append_dict_repr(Runtime& runtime, std::string& out, const Dict& dict) {
  out += '{';
  for (const auto& [key, value] : dict.entries()) {
    if (&key != &dict.entries().front().first) out += ", ";
    append_repr(runtime, out, key);
    out += ": ";
    append_repr(runtime, out, value);
  }
  out += '}';
}

}  // namespace

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific);
  const std::string shortest(buffer.data(), end.ptr);
  const std::size_t e = shortest.find('e');
  const int exponent = std::stoi(shortest.substr(e + 1));
  // Python writes an exponent below 1e-4 and from 1e16 on.
  if (exponent < -4 || exponent >= 16) return shortest;
  std::string digits;
  for (const char c : shortest.substr(0, e)) {
    if (c != '-' && c != '.') digits += c;
  }
  const std::string sign = shortest.front() == '-' ? "-" : "";
  if (exponent < 0) return sign + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
  return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

std::string string_repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t at = 0; at < text.size();) {
    const text::Point p = text::decode(text, at);
    if (p.value == '\n') {
      out += "\\n";
    } else if (p.value == '\r') {
      out += "\\r";
    } else if (p.value == '\t') {
      out += "\\t";
    } else if (p.value == '\\' || p.value == static_cast<char32_t>(quote)) {
      out += '\\';
      out += static_cast<char>(p.value);
    } else if (text::is_printable(p.value)) {
      out += text.substr(at, p.size);
    } else {
      append_escape(out, p.value);
    }
    at += p.size;
  }
  return out + quote;
}

void append_repr(Runtime& runtime, std::string& out, const Value& value) {
  const Runtime::Nesting nesting(runtime);
  runtime.charge(8);
  runtime.check_string(out.size());
  if (value.is_string()) {
    runtime.charge(value.as_string().size());
    const std::string text = string_repr(value.as_string());
    out += value.is_markup() ? "Markup(" + text + ")" : text;
  } else if (value.is_none()) {
    out += "None";
  } else if (value.is_undefined()) {
    out += "Undefined";
  } else if (value.is_boolean()) {
    out += value.as_integer() != 0 ? "True" : "False";
  } else if (value.is_integral()) {
    out += std::to_string(value.as_integer());
  } else if (value.is_floating()) {
    out += float_repr(value.as_double());
  } else if (value.is_dict()) {
    append_dict_repr(runtime, out, *value.as_dict());
  } else if (value.is_object()) {
    out += value.as_object()->repr(runtime);
  } else {
    append_sequence_repr(runtime, out, *value.as_sequence());
  }
}

void append_string(Runtime& runtime, std::string& out, const Value& value) {
  if (value.is_undefined()) return;
  if (!value.is_string()) return append_repr(runtime, out, value);
  runtime.charge(value.as_string().size());
  runtime.check_string(out.size() + value.as_string().size());
  out += value.as_string();
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '\'': out += "&#39;"; break;
      case '"': out += "&#34;"; break;
      default: out += c;
    }
  }
  return out;
}

StringPtr to_string(Runtime& runtime, const Value& value) {
  if (value.is_string()) return value.string_ptr();
  std::string out;
  append_string(runtime, out, value);
  return std::make_shared<const std::string>(std::move(out));
}

}  // namespace metal_candle::jinja
