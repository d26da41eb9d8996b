// json.dumps().
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

void append_unit(std::string& out, unsigned unit) {
  std::array<char, 12> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "\\u%04x", unit);
  out += buffer.data();
}

void append_json_string(std::string& out, std::string_view s, bool ensure_ascii) {
  out += '"';
  for (std::size_t at = 0; at < s.size();) {
    const text::Point p = text::decode(s, at);
    switch (p.value) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      default:
        if (p.value < 0x20 || (ensure_ascii && p.value >= 0x7F && p.value < 0x10000)) {
          append_unit(out, p.value);
        } else if (ensure_ascii && p.value >= 0x10000) {
          append_unit(out, 0xD800 + ((p.value - 0x10000) >> 10));
          append_unit(out, 0xDC00 + ((p.value - 0x10000) & 0x3FF));
        } else {
          out += s.substr(at, p.size);
        }
    }
    at += p.size;
  }
  out += '"';
}

std::string json_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return float_repr(value);
}

class Writer {
 public:
  Writer(Runtime& runtime, std::string& out, const JsonStyle& style)
      : runtime_(runtime), out_(out), style_(style) {}

  void write(const Value& value) {
    const Runtime::Nesting nesting(runtime_);
    runtime_.charge(8);
    runtime_.check_string(out_.size());
    if (value.is_string()) {
      write_string(value.as_string());
    } else if (value.is_none()) {
      out_ += "null";
    } else if (value.is_boolean()) {
      out_ += value.as_integer() != 0 ? "true" : "false";
    } else if (value.is_integral()) {
      out_ += std::to_string(value.as_integer());
    } else if (value.is_floating()) {
      out_ += json_float(value.as_double());
    } else if (value.is_dict()) {
      write_dict(*value.as_dict());
    } else if (value.is_sequence() && is_array(*value.as_sequence())) {
      write_array(value.as_sequence()->items);
    } else {
      fail("Object of type " + std::string(value.type_name()) + " is not JSON serializable");
    }
  }

 private:
  static bool is_array(const Sequence& s) {
    return s.kind == SequenceKind::list || s.kind == SequenceKind::tuple || s.kind == SequenceKind::group;
  }

  void write_string(std::string_view s) {
    runtime_.charge(s.size());
    append_json_string(out_, s, style_.ensure_ascii);
  }

  void new_line() {
    if (!style_.pretty) return;
    runtime_.charge(level_ * style_.indent.size());
    out_ += '\n';
    for (std::size_t i = 0; i < level_; ++i) out_ += style_.indent;
  }

  template <typename Items, typename Body>
  void write_items(const Items& items, char open, char close, const Body& body) {
    out_ += open;
    ++level_;
    bool first = true;
    for (const auto& item : items) {
      if (!first) out_ += style_.item_separator;
      first = false;
      new_line();
      body(item);
    }
    --level_;
    if (!first) new_line();
    out_ += close;
  }

  void write_array(const std::vector<Value>& items) {
    write_items(items, '[', ']', [&](const Value& item) { write(item); });
  }

  void write_dict(const Dict& dict) {
    std::vector<Dict::Entry> entries = dict.entries();
    if (style_.sort_keys) {
      std::vector<Value> keys, values;
      for (const auto& [key, value] : entries) {
        keys.push_back(key);
        values.push_back(runtime_.tuple({key, value}));
      }
      entries.clear();
      for (const Value& pair : sorted(runtime_, values, keys, false)) {
        entries.emplace_back(pair.as_sequence()->items[0], pair.as_sequence()->items[1]);
      }
    }
    write_items(entries, '{', '}', [&](const Dict::Entry& entry) {
      write_string(key_text(entry.first));
      out_ += style_.key_separator;
      write(entry.second);
    });
  }

  std::string key_text(const Value& key) {
    if (key.is_string()) return key.as_string();
    if (key.is_none()) return "null";
    if (key.is_boolean()) return key.as_integer() != 0 ? "true" : "false";
    if (key.is_integral()) return std::to_string(key.as_integer());
    if (key.is_floating()) return json_float(key.as_double());
    fail("keys must be str, int, float, bool or None, not " + std::string(key.type_name()));
  }

  Runtime& runtime_;
  std::string& out_;
  const JsonStyle& style_;
  std::size_t level_ = 0;
};

}  // namespace

void append_json(Runtime& runtime, std::string& out, const Value& value, const JsonStyle& style) {
  Writer(runtime, out, style).write(value);
}

}  // namespace metal_candle::jinja
