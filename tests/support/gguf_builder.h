// Test-only writer of GGUF v3 files: tiny models for tests, and malformed ones through its raw parts.
// It checks nothing. Layout: ggml, docs/gguf.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/dtype.h"
#include "support/quantize.h"

namespace metal_candle::test {

/// ggml's number of a type.
inline std::uint32_t ggml_type(DType type) {
  static const std::map<DType, std::uint32_t> numbers{
      {DType::f32, 0},   {DType::f16, 1},   {DType::q4_0, 2},  {DType::q4_1, 3},  {DType::q5_0, 6},
      {DType::q5_1, 7},  {DType::q8_0, 8},  {DType::q2_k, 10}, {DType::q3_k, 11}, {DType::q4_k, 12},
      {DType::q5_k, 13}, {DType::q6_k, 14}, {DType::i8, 24},   {DType::i16, 25},  {DType::i32, 26},
      {DType::i64, 27},  {DType::f64, 28},  {DType::bf16, 30}};
  return numbers.at(type);
}

/// Usage: GgufBuilder().set("general.architecture", "llama").tensor("w", DType::q4_1, {2, 32},
/// floats).bytes(). The public fields override what bytes() writes, to build broken files.
class GgufBuilder {
 public:
  struct Tensor {
    std::string name;
    std::vector<std::uint64_t> ne;  // innermost first, as the file stores it
    std::uint32_t type = 0;
    std::uint64_t offset = 0;
  };
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::uint64_t alignment = 32;                        // also set("general.alignment", ...) when changed
  std::uint64_t extra_entries = 0, extra_tensors = 0;  // added to the true counts
  std::vector<Tensor> tensors;

  /// Integers keep their C++ width, bool is bool, text is a string, vectors are arrays of these.
  template <typename T>
  GgufBuilder& set(std::string_view key, const T& value) {
    put_string(metadata_, key);
    put(metadata_, type_number<T>());
    put_value(metadata_, value);
    ++entries_;
    return *this;
  }
  template <typename T>
  GgufBuilder& set(std::string_view key, const std::vector<T>& values) {
    put_string(metadata_, key);
    put(metadata_, std::uint32_t{9});
    put(metadata_, type_number<T>());
    put(metadata_, std::uint64_t{values.size()});
    for (const T& value : values) put_value(metadata_, value);
    ++entries_;
    return *this;
  }
  /// An entry as raw bytes, key included.
  GgufBuilder& set_raw(std::span<const std::byte> entry) {
    metadata_.insert(metadata_.end(), entry.begin(), entry.end());
    ++entries_;
    return *this;
  }

  /// Encodes `values` (row-major `shape`, outermost first) as f32, f16, bf16, q4_0, q4_1 or q8_0.
  GgufBuilder& tensor(std::string name, DType type, std::vector<std::uint64_t> shape,
                      std::span<const float> values) {
    return tensor_bytes(std::move(name), type, std::move(shape), encode(type, values));
  }
  /// A tensor already encoded.
  GgufBuilder& tensor_bytes(std::string name, DType type, std::vector<std::uint64_t> shape,
                            std::span<const std::byte> data) {
    pad(data_, alignment);
    tensors.push_back({std::move(name), {shape.rbegin(), shape.rend()}, ggml_type(type), data_.size()});
    data_.insert(data_.end(), data.begin(), data.end());
    return *this;
  }

  std::vector<std::byte> bytes() const {
    std::vector<std::byte> out;
    for (const char c : magic) put(out, c);
    put(out, version);
    put(out, std::uint64_t{tensors.size() + extra_tensors});
    put(out, std::uint64_t{entries_ + extra_entries});
    out.insert(out.end(), metadata_.begin(), metadata_.end());
    for (const Tensor& tensor : tensors) {
      put_string(out, tensor.name);
      put(out, static_cast<std::uint32_t>(tensor.ne.size()));
      for (const std::uint64_t n : tensor.ne) put(out, n);
      put(out, tensor.type);
      put(out, tensor.offset);
    }
    if (!tensors.empty()) pad(out, alignment);
    out.insert(out.end(), data_.begin(), data_.end());
    return out;
  }

  std::filesystem::path write(const std::filesystem::path& path) const {
    const auto all = bytes();
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(all.data()), static_cast<std::streamsize>(all.size()));
    return path;
  }

  // Parts, for set_raw.
  template <typename T>
  static void put(std::vector<std::byte>& out, T value) {
    detail::append(out, value);
  }
  static void put_string(std::vector<std::byte>& out, std::string_view text) {
    put(out, std::uint64_t{text.size()});
    const auto* p = reinterpret_cast<const std::byte*>(text.data());
    out.insert(out.end(), p, p + text.size());
  }

 private:
  template <typename T>
  static constexpr std::uint32_t type_number() {
    if constexpr (std::is_same_v<T, bool>)
      return 7;
    else if constexpr (std::is_same_v<T, float>)
      return 6;
    else if constexpr (std::is_same_v<T, double>)
      return 12;
    else if constexpr (std::is_integral_v<T>) {
      constexpr std::uint32_t kByWidth[] = {0, 0, 2, 0, 4, 0, 0, 0, 10};
      return kByWidth[sizeof(T)] + (std::is_signed_v<T> ? 1 : 0);
    } else
      return 8;
  }
  template <typename T>
  static void put_value(std::vector<std::byte>& out, const T& value) {
    if constexpr (std::is_arithmetic_v<T>)
      put(out, value);
    else
      put_string(out, value);
  }
  static void pad(std::vector<std::byte>& out, std::uint64_t alignment) {
    while (out.size() % alignment != 0) out.push_back(std::byte{0});
  }

  std::vector<std::byte> metadata_, data_;
  std::uint64_t entries_ = 0;
};

}  // namespace metal_candle::test
