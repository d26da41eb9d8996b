// A bounds-checked little-endian cursor over a file's bytes. It knows no format.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {

static_assert(std::endian::native == std::endian::little, "model files are read in place, little-endian");

/// Views `bytes` and `file` (the name for messages), which must outlive it. One thread.
/// Every read that would pass the end throws malformed_file naming the file, `what` and `of` (a key or
/// tensor).
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  std::size_t position() const noexcept { return position_; }
  std::size_t remaining() const noexcept { return bytes_.size() - position_; }
  std::string_view file() const noexcept { return file_; }

  template <typename T>
  T read(std::string_view what, std::string_view of = {}) {
    static_assert(std::is_arithmetic_v<T>);
    T value;
    std::memcpy(&value, take(sizeof(T), what, of).data(), sizeof(T));
    return value;
  }

  /// The next `count` bytes.
  std::span<const std::byte> take(std::uint64_t count, std::string_view what, std::string_view of = {}) {
    if (count > remaining()) fail_truncated(what, of);
    const auto part = bytes_.subspan(position_, static_cast<std::size_t>(count));
    position_ += part.size();
    return part;
  }

  /// A 64-bit length and that many bytes: GGUF's string. The view lies in the file's bytes.
  std::string_view string(std::string_view what, std::string_view of = {}) {
    const auto part = take(read<std::uint64_t>(what, of), what, of);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  [[noreturn]] void fail_truncated(std::string_view what, std::string_view of) const {
    std::string message = quote_path(file_) + ": the file ends inside " + std::string(what);
    if (!of.empty()) message += " " + quote(of);
    message += " at byte " + std::to_string(position_) + " of " + std::to_string(bytes_.size()) +
               "; it is truncated or corrupt, download it again";
    throw Error(ErrorCode::malformed_file, message);
  }

  std::span<const std::byte> bytes_;
  std::string_view file_;
  std::size_t position_ = 0;
};

}  // namespace metal_candle
