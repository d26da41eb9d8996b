// ggml's numbers of element types, as GGUF's tensor directory writes them. No data.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/dtype.h"

namespace metal_candle {

struct GgufStorage {
  std::string_view name;  ///< Empty: a number that ggml never used or retired.
  std::optional<DType> dtype{};
};
/// Any number is allowed.
GgufStorage gguf_storage(std::uint32_t number) noexcept;
/// The inverse: empty for types that GGUF has not (unsigned integers, bool).
std::optional<std::uint32_t> gguf_number(DType type) noexcept;

}  // namespace metal_candle
