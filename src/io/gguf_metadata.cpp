#include "io/gguf_metadata.h"

#include <array>
#include <limits>
#include <type_traits>

#include "core/checked.h"

namespace metal_candle {
namespace {

struct TypeTraits {
  std::string_view name;
  std::size_t bytes;  // 0: no fixed size
};
constexpr std::array<TypeTraits, 13> kTypes{{{"u8", 1},
                                             {"i8", 1},
                                             {"u16", 2},
                                             {"i16", 2},
                                             {"u32", 4},
                                             {"i32", 4},
                                             {"f32", 4},
                                             {"bool", 1},
                                             {"string", 0},
                                             {"array", 0},
                                             {"u64", 8},
                                             {"i64", 8},
                                             {"f64", 8}}};
static_assert(kTypes.size() == static_cast<std::size_t>(GgufType::f64) + 1);

// The format allows keys of at most 65,535 bytes.
constexpr std::size_t kLongestKey = 65535;

[[noreturn]] void fail(std::string_view file, std::string_view key, const std::string& why,
                       ErrorCode code = ErrorCode::malformed_file) {
  throw Error(code, quote_path(file) + ": metadata key " + quote(key) + " " + why);
}

GgufType read_type(ByteReader& reader, std::string_view key) {
  const auto number = reader.read<std::uint32_t>("the type of metadata key", key);
  if (number >= kTypes.size()) {
    fail(reader.file(), key, "has unknown value type " + std::to_string(number));
  }
  return static_cast<GgufType>(number);
}

bool to_bool(std::uint8_t byte, std::string_view file, std::string_view key) {
  if (byte > 1) fail(file, key, "holds a bool that is neither 0 nor 1");
  return byte == 1;
}

GgufArray read_array(ByteReader& reader, std::string_view key) {
  constexpr std::string_view kWhat = "the array of metadata key";
  GgufArray array;
  array.element = read_type(reader, key);
  array.count = reader.read<std::uint64_t>(kWhat, key);
  if (array.element == GgufType::array) {
    fail(reader.file(), key, "is an array of arrays, which is not supported", ErrorCode::unsupported);
  }
  if (array.element == GgufType::string) {
    // Each string takes at least its 8-byte length: a hostile count cannot reserve beyond twice the file.
    if (array.count > reader.remaining() / sizeof(std::uint64_t)) reader.take(~std::uint64_t{0}, kWhat, key);
    array.strings.reserve(static_cast<std::size_t>(array.count));
    for (std::uint64_t i = 0; i < array.count; ++i) array.strings.push_back(reader.string(kWhat, key));
    return array;
  }
  const std::size_t width = kTypes[static_cast<std::size_t>(array.element)].bytes;
  const auto size = checked_mul<std::uint64_t>(array.count, width);
  array.bytes = reader.take(size.value_or(~std::uint64_t{0}), kWhat, key);
  return array;
}

/// Calls visit(value) for each element, as the type it is stored in.
template <typename Visit>
void for_each_number(const GgufArray& array, const Visit& visit) {
  const auto run = [&]<typename T>(T value) {
    for (std::size_t at = 0; at < array.bytes.size(); at += sizeof(T)) {
      std::memcpy(&value, array.bytes.data() + at, sizeof(T));
      visit(value);
    }
  };
  switch (array.element) {
    case GgufType::u8: return run(std::uint8_t{});
    case GgufType::i8: return run(std::int8_t{});
    case GgufType::u16: return run(std::uint16_t{});
    case GgufType::i16: return run(std::int16_t{});
    case GgufType::u32: return run(std::uint32_t{});
    case GgufType::i32: return run(std::int32_t{});
    case GgufType::f32: return run(float{});
    case GgufType::boolean: return run(std::uint8_t{});
    case GgufType::u64: return run(std::uint64_t{});
    case GgufType::i64: return run(std::int64_t{});
    case GgufType::f64: return run(double{});
    case GgufType::string:
    case GgufType::array: return;
  }
}

}  // namespace

std::string_view name(GgufType type) noexcept { return kTypes[static_cast<std::size_t>(type)].name; }

GgufMetadata GgufMetadata::read(ByteReader& reader, std::uint64_t count) {
  GgufMetadata metadata;
  metadata.file_ = reader.file();
  // No reserve: `count` is unchecked, and a file with too few entries fails on reading.
  for (std::uint64_t i = 0; i < count; ++i) metadata.read_entry(reader);
  return metadata;
}

void GgufMetadata::read_entry(ByteReader& reader) {
  GgufEntry entry;
  entry.key = reader.string("a metadata key");
  const std::string_view key = entry.key;
  if (key.empty() || key.size() > kLongestKey) fail(file_, key, "must have 1 to 65535 bytes");
  if (!index_.emplace(key, entries_.size()).second) fail(file_, key, "occurs twice");
  entry.type = read_type(reader, key);
  const auto scalar = [&]<typename T>(T) { return reader.read<T>("the value of metadata key", key); };
  switch (entry.type) {
    case GgufType::u8: entry.value = std::uint64_t{scalar(std::uint8_t{})}; break;
    case GgufType::u16: entry.value = std::uint64_t{scalar(std::uint16_t{})}; break;
    case GgufType::u32: entry.value = std::uint64_t{scalar(std::uint32_t{})}; break;
    case GgufType::u64: entry.value = scalar(std::uint64_t{}); break;
    case GgufType::i8: entry.value = std::int64_t{scalar(std::int8_t{})}; break;
    case GgufType::i16: entry.value = std::int64_t{scalar(std::int16_t{})}; break;
    case GgufType::i32: entry.value = std::int64_t{scalar(std::int32_t{})}; break;
    case GgufType::i64: entry.value = scalar(std::int64_t{}); break;
    case GgufType::f32: entry.value = double{scalar(float{})}; break;
    case GgufType::f64: entry.value = scalar(double{}); break;
    case GgufType::boolean: entry.value = to_bool(scalar(std::uint8_t{}), file_, key); break;
    case GgufType::string: entry.value = reader.string("the value of metadata key", key); break;
    case GgufType::array: entry.value = read_array(reader, key); break;
  }
  entries_.push_back(std::move(entry));
}

const GgufEntry* GgufMetadata::find(std::string_view key) const noexcept {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &entries_[it->second];
}

std::optional<std::string_view> GgufMetadata::optional_string(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* text = std::get_if<std::string_view>(&entry->value)) return *text;
  fail_type(*entry, "a string");
}

std::optional<std::uint64_t> GgufMetadata::optional_u64(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<std::uint64_t>(&entry->value)) return *value;
  const auto* value = std::get_if<std::int64_t>(&entry->value);
  if (value == nullptr || *value < 0) fail_type(*entry, "a non-negative integer");
  return static_cast<std::uint64_t>(*value);
}

std::optional<std::int64_t> GgufMetadata::optional_i64(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<std::int64_t>(&entry->value)) return *value;
  const auto* value = std::get_if<std::uint64_t>(&entry->value);
  if (value == nullptr || *value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    fail_type(*entry, "an integer below 2^63");
  }
  return static_cast<std::int64_t>(*value);
}

std::optional<double> GgufMetadata::optional_f64(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<double>(&entry->value)) return *value;
  if (const auto* value = std::get_if<std::uint64_t>(&entry->value)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<std::int64_t>(&entry->value)) return static_cast<double>(*value);
  fail_type(*entry, "a number");
}

std::optional<bool> GgufMetadata::optional_bool(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return std::nullopt;
  if (const auto* value = std::get_if<bool>(&entry->value)) return *value;
  fail_type(*entry, "a bool");
}

const GgufArray* GgufMetadata::find_array(std::string_view key) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) return nullptr;
  const auto* array = std::get_if<GgufArray>(&entry->value);
  if (array == nullptr) fail_type(*entry, "an array");
  return array;
}

std::optional<std::span<const std::string_view>> GgufMetadata::optional_string_array(
    std::string_view key) const {
  const GgufArray* array = find_array(key);
  if (array == nullptr) return std::nullopt;
  if (array->element != GgufType::string) fail_type(*find(key), "an array of strings");
  return array->strings;
}

std::optional<std::vector<std::int64_t>> GgufMetadata::optional_i64_array(std::string_view key) const {
  const GgufArray* array = find_array(key);
  if (array == nullptr) return std::nullopt;
  constexpr std::string_view kExpected = "an array of integers below 2^63";
  if (array->element == GgufType::string) fail_type(*find(key), kExpected);
  std::vector<std::int64_t> values;
  values.reserve(static_cast<std::size_t>(array->count));
  for_each_number(*array, [&](auto value) {
    if (!std::is_integral_v<decltype(value)>) fail_type(*find(key), kExpected);
    const auto integer = static_cast<std::int64_t>(value);
    if (std::is_unsigned_v<decltype(value)> && integer < 0) fail_type(*find(key), kExpected);
    values.push_back(integer);
  });
  return values;
}

std::optional<std::vector<float>> GgufMetadata::optional_f32_array(std::string_view key) const {
  const GgufArray* array = find_array(key);
  if (array == nullptr) return std::nullopt;
  if (array->element == GgufType::string) fail_type(*find(key), "an array of numbers");
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(array->count));
  for_each_number(*array, [&](auto value) { values.push_back(static_cast<float>(value)); });
  return values;
}

void GgufMetadata::fail_type(const GgufEntry& entry, std::string_view expected) const {
  std::string found{name(entry.type)};
  if (const auto* array = std::get_if<GgufArray>(&entry.value))
    found += " of " + std::string(name(array->element));
  fail(file_, entry.key, "must be " + std::string(expected) + ", not this value of type " + found);
}

void GgufMetadata::fail_missing(std::string_view key) const {
  fail(file_, key, "is missing; the file is incomplete or made for another architecture");
}

}  // namespace metal_candle
