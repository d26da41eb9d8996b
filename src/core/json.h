// The library's only include of nlohmann-json: its type, and parsing of text that nobody has vouched for.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "metal_candle/error.h"

namespace metal_candle {

using Json = nlohmann::json;
/// Keeps the order of keys, which chat templates print; finding a key is linear.
using OrderedJson = nlohmann::ordered_json;

struct JsonLimits {
  std::size_t depth = 64;    ///< Deepest nesting allowed; keeps recursive visitors off hostile depths.
  bool unique_keys = false;  ///< Refuse a key that occurs twice in one object.
};

namespace detail {

struct JsonExtent {
  std::size_t depth = 0;  ///< of the deepest nesting
  std::size_t pairs = 0;  ///< keys with a value, in all objects together
};

/// Right for valid JSON; for other text an upper bound of what a parser meets before it fails.
inline JsonExtent json_extent(std::string_view text) noexcept {
  JsonExtent out;
  std::size_t depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      out.depth = ++depth > out.depth ? depth : out.depth;
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    } else if (c == ':') {
      ++out.pairs;
    }
  }
  return out;
}

inline std::size_t json_members(const Json& value) {
  std::size_t sum = value.is_object() ? value.size() : 0;
  if (value.is_structured())
    for (const Json& part : value) sum += json_members(part);
  return sum;
}

}  // namespace detail

/// Parses one JSON text (RFC 8259, valid UTF-8, at most white space after it).
/// `source` names it in messages: a file, or a file and the part of it.
/// Throws malformed_file with the byte where it went wrong.
inline Json parse_json(std::string_view text, std::string_view source, JsonLimits limits = {}) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::malformed_file, std::string(source) + ": " + why);
  };
  const detail::JsonExtent extent = detail::json_extent(text);
  if (extent.depth > limits.depth) {
    fail("JSON nested deeper than " + std::to_string(limits.depth) + " levels");
  }
  std::vector<std::unordered_set<std::string>> open_objects;
  const auto watch_keys = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) open_objects.emplace_back();
    if (event == Json::parse_event_t::object_end) open_objects.pop_back();
    if (event == Json::parse_event_t::key && !open_objects.back().insert(value.get<std::string>()).second) {
      fail("the JSON key " + value.dump(-1, ' ', true).substr(0, 120) + " occurs twice");
    }
    return true;
  };
  try {
    Json value = Json::parse(text.begin(), text.end());
    // Of keys that occur twice one is gone. Watching for them takes twice as long: only to name them.
    if (limits.unique_keys && detail::json_members(value) != extent.pairs)
      value = Json::parse(text.begin(), text.end(), watch_keys);
    return value;
  } catch (const Json::parse_error& error) {
    fail("invalid JSON at byte " + std::to_string(error.byte));
  } catch (const Json::exception&) {
    fail("JSON with a number out of range");
  }
  return {};  // not reached: fail throws
}

}  // namespace metal_candle
