// XXH3-128 of bytes that arrive in pieces: the same on every machine, as fast as the machine's vectors allow.
#pragma once

#include <array>
#include <cstddef>
#include <string>

namespace metal_candle::simd {

/// One thread at a time.
class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  void add(const void* data, std::size_t bytes);
  /// The bytes of a value without padding.
  template <typename T>
  void add_value(T value) {
    add(&value, sizeof value);
  }

  /// Of all added so far, in xxHash's canonical order.
  std::array<unsigned char, 16> digest() const;
  /// The same as 32 hexadecimal digits.
  std::string text() const;

 private:
  void* state_;
};

}  // namespace metal_candle::simd
