// Test-only: safetensors bytes from a header text and data, checked by nobody.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "support/file_bytes.h"
#include "support/quantize.h"

namespace metal_candle::test {

/// `length` defaults to the header's true one.
inline std::vector<std::byte> safetensors_bytes(std::string_view header, std::size_t data_bytes,
                                                std::uint64_t length = ~std::uint64_t{0}) {
  std::vector<std::byte> out;
  detail::append(out, length == ~std::uint64_t{0} ? std::uint64_t{header.size()} : length);
  const auto text = as_bytes(header);
  out.insert(out.end(), text.begin(), text.end());
  for (std::size_t i = 0; i < data_bytes; ++i) out.push_back(static_cast<std::byte>(i));
  return out;
}

/// One tensor's entry of a header: "name":{...}.
inline std::string safetensors_entry(std::string_view name, std::string_view dtype, std::string_view shape,
                                     std::uint64_t begin, std::uint64_t end) {
  std::string out = "\"";
  out.append(name).append("\":{\"dtype\":\"").append(dtype).append("\",\"shape\":").append(shape);
  out.append(",\"data_offsets\":[").append(std::to_string(begin)).append(",").append(std::to_string(end));
  return out.append("]}");
}

/// A header of entries: {...}.
inline std::string safetensors_header(std::initializer_list<std::string> entries) {
  std::string out = "{";
  for (const std::string& entry : entries) {
    if (out.size() > 1) out += ',';
    out += entry;
  }
  return out + "}";
}

}  // namespace metal_candle::test
