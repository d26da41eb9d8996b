// The key-value section of a GGUF file, typed. It gives no key a meaning (models and tokenizer do).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "io/byte_reader.h"

namespace metal_candle {

/// Value types, numbered as in the GGUF specification (ggml, docs/gguf.md).
enum class GgufType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

/// "u32", "array", ...
std::string_view name(GgufType type) noexcept;

/// An array of one scalar type. Strings are views into the file; other elements stay packed in `bytes`.
struct GgufArray {
  GgufType element = GgufType::u8;
  std::uint64_t count = 0;
  std::span<const std::byte>
      bytes;  ///< Packed little-endian elements, possibly unaligned; empty for strings.
  std::vector<std::string_view> strings;  ///< Only for element == string.
};

/// One key. Unsigned types are held as uint64, signed as int64, floats as double.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::u8;
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray> value;
};

/// Views into the file's bytes: valid as long as they are. Immutable, so const calls are thread-safe.
///
/// `optional_*` are empty if the key is absent; `required_*` and `*_array` throw malformed_file then. All
/// throw malformed_file if the value has another type or does not fit. Integers of every width and sign are
/// accepted where an integer is asked for, and integers too where a float is.
class GgufMetadata {
 public:
  GgufMetadata() = default;

  /// Reads `count` entries. Nested arrays are refused as unsupported.
  static GgufMetadata read(ByteReader& reader, std::uint64_t count);

  std::span<const GgufEntry> entries() const noexcept { return entries_; }
  const GgufEntry* find(std::string_view key) const noexcept;
  bool contains(std::string_view key) const noexcept { return find(key) != nullptr; }

  std::optional<std::string_view> optional_string(std::string_view key) const;
  std::optional<std::uint64_t> optional_u64(std::string_view key) const;
  std::optional<std::int64_t> optional_i64(std::string_view key) const;
  std::optional<double> optional_f64(std::string_view key) const;
  std::optional<bool> optional_bool(std::string_view key) const;

  std::string_view required_string(std::string_view key) const { return require(optional_string(key), key); }
  std::uint64_t required_u64(std::string_view key) const { return require(optional_u64(key), key); }
  std::int64_t required_i64(std::string_view key) const { return require(optional_i64(key), key); }
  double required_f64(std::string_view key) const { return require(optional_f64(key), key); }
  bool required_bool(std::string_view key) const { return require(optional_bool(key), key); }

  std::optional<std::span<const std::string_view>> optional_string_array(std::string_view key) const;
  std::optional<std::vector<std::int64_t>> optional_i64_array(std::string_view key) const;
  std::optional<std::vector<float>> optional_f32_array(std::string_view key) const;

  std::span<const std::string_view> string_array(std::string_view key) const {
    return require(optional_string_array(key), key);
  }
  std::vector<std::int64_t> i64_array(std::string_view key) const {
    return require(optional_i64_array(key), key);
  }
  std::vector<float> f32_array(std::string_view key) const { return require(optional_f32_array(key), key); }

 private:
  template <typename T>
  T require(std::optional<T> value, std::string_view key) const {
    if (!value) fail_missing(key);
    return *std::move(value);
  }
  void read_entry(ByteReader& reader);
  const GgufArray* find_array(std::string_view key) const;
  [[noreturn]] void fail_type(const GgufEntry& entry, std::string_view expected) const;
  [[noreturn]] void fail_missing(std::string_view key) const;

  std::string file_;
  std::vector<GgufEntry> entries_;
  std::unordered_map<std::string_view, std::size_t> index_;
};

}  // namespace metal_candle
