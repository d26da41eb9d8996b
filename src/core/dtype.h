// Element types of stored tensors: names, block sizes and byte counts. No data, no conversion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace metal_candle {

/// Element type of a stored tensor. The quantized ones are GGUF's block formats
/// (ggml's definition): a row is a whole number of blocks.
enum class DType : std::uint8_t {
  f32,
  f16,
  bf16,
  f64,
  i8,
  i16,
  i32,
  i64,
  u8,
  u16,
  u32,
  u64,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
};

/// "q4_1", "bf16", ...
std::string_view name(DType type) noexcept;

/// Elements per block: 1 for plain types, 32 or 256 for quantized ones.
std::size_t block_elements(DType type) noexcept;

/// Bytes per block.
std::size_t block_bytes(DType type) noexcept;

inline bool is_quantized(DType type) noexcept { return block_elements(type) > 1; }

/// Bytes of `elements` values; empty on overflow or if `elements` is not a whole number of blocks.
std::optional<std::uint64_t> byte_size(DType type, std::uint64_t elements) noexcept;

}  // namespace metal_candle
