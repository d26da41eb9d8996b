// Typed, bounded access to the values of config.json and its like. Knows no key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/json.h"
#include "metal_candle/error.h"

namespace metal_candle {

// Far above any model; keeps hostile headers from asking for absurd memory or loops.
inline constexpr std::uint64_t kMaxSize = 1u << 24;
inline constexpr std::uint64_t kMaxLayers = 4096;

[[noreturn]] inline void fail(ErrorCode code, const std::string& file, const std::string& key,
                              const std::string& what) {
  throw Error(code, file + ": " + key + ": " + what);
}

inline std::uint32_t bounded(std::uint64_t value, std::uint64_t limit, const std::string& file,
                             const std::string& key) {
  if (value == 0 || value > limit)
    fail(ErrorCode::malformed_file, file, key,
         "must be 1 to " + std::to_string(limit) + ", is " + std::to_string(value));
  return static_cast<std::uint32_t>(value);
}

/// One JSON object; keeps references. A null value counts as absent. Throws Error(malformed_file) naming file
/// and key.
class JsonReader {
 public:
  JsonReader(const Json& json, const std::string& file) : json_(json), file_(file) {
    if (!json.is_object()) fail(ErrorCode::malformed_file, file, "(top level)", "must be a JSON object");
  }
  const std::string& file() const { return file_; }
  const Json* find(const char* key) const {
    const auto it = json_.find(key);
    return it == json_.end() || it->is_null() ? nullptr : &*it;
  }
  std::uint32_t size(const char* key, std::optional<std::uint32_t> otherwise = {}) const {
    const Json* value = find(key);
    if (!value && otherwise) return *otherwise;
    if (!value || !value->is_number_integer() || value->get<std::int64_t>() < 0)
      fail(ErrorCode::malformed_file, file_, key, "a positive integer is needed");
    return bounded(value->get<std::uint64_t>(),
                   key == std::string("num_hidden_layers") ? kMaxLayers : kMaxSize, file_, key);
  }
  double number(const char* key, double otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_number()) fail(ErrorCode::malformed_file, file_, key, "a number is needed");
    return value->get<double>();
  }
  bool boolean(const char* key, bool otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) fail(ErrorCode::malformed_file, file_, key, "true or false is needed");
    return value->get<bool>();
  }
  std::string text(const char* key, const std::string& otherwise) const {
    const Json* value = find(key);
    if (!value) return otherwise;
    if (!value->is_string()) fail(ErrorCode::malformed_file, file_, key, "a string is needed");
    return value->get<std::string>();
  }

 private:
  const Json& json_;
  const std::string& file_;
};

}  // namespace metal_candle
