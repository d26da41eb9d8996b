// What every fuzz target needs: the input as bytes, and "a typed error is fine, anything else is a finding".
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>

#include "metal_candle/error.h"

namespace metal_candle::fuzz {

inline std::span<const std::byte> as_bytes(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

/// Runs `parse`; an Error of one line is an answer. Every other exception leaves, and libFuzzer reports it.
template <typename F>
void expect_value_or_error(const F& parse) {
  try {
    parse();
  } catch (const Error& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) std::abort();
  }
}

/// Reads every byte, so that a sanitizer sees a span that reaches too far.
inline void touch(std::span<const std::byte> bytes) {
  std::uint8_t all = 0;
  for (const std::byte b : bytes) all ^= static_cast<std::uint8_t>(b);
  volatile std::uint8_t sink = all;
  static_cast<void>(sink);
}

inline void touch(std::string_view text) { touch(std::as_bytes(std::span(text.data(), text.size()))); }

}  // namespace metal_candle::fuzz
