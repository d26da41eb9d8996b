// The storage layout of the KV cache of one head: keys and values are packed in blocks of 16 positions, so
// that attention reads both as whole vectors without a horizontal sum. Not an owner: the cache is
// nn/kv_cache.
//
// Per kv head, keys and values are two separate byte ranges, each a sequence of blocks; block b holds
// positions [16b, 16b+16). With D = kv_dim(head_dim), the padding being zero:
//   f32, f16: keys [D][16]          values [16][D]
//   bf16:     keys [D/2][16][2]     values [8][D][2]     (pairs along the summed axis, as dpbf16ps wants
//   them)
//   int8:     keys [D][16], then 16 f32 scales; values [16][D + 4], each row's last 4 bytes its f32 scale. A
//             position's codes are x / scale rounded, scale = max|x| / 127.
// A prefix of positions is a prefix of bytes (rounded up to a block): growing, copying and cutting a cache
// are memcpy. What lies at positions beyond those that a call is told of is never read into a result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

enum class KvType : std::uint8_t { f32, f16, bf16, int8 };

inline constexpr std::size_t kKvBlock = 16;  // positions a block

/// head_dim rounded up to a multiple of 16.
constexpr std::size_t kv_dim(std::size_t head_dim) { return (head_dim + 15) / 16 * 16; }

/// Bytes of one block of keys (or of values) of one head.
constexpr std::size_t kv_block_bytes(KvType type, std::size_t head_dim) {
  if (type == KvType::int8) return kKvBlock * (kv_dim(head_dim) + sizeof(float));
  return kKvBlock * kv_dim(head_dim) * (type == KvType::f32 ? 4 : 2);
}

/// Bytes that the keys (or the values) of one head take for `positions` positions.
constexpr std::size_t kv_bytes(KvType type, std::size_t head_dim, std::size_t positions) {
  return (positions + kKvBlock - 1) / kKvBlock * kv_block_bytes(type, head_dim);
}

/// Writes `rows` keys of head_dim floats, row i at x + i * stride, to positions position + i of one head.
/// `keys` is the head's range, aligned to 2 bytes (64 is faster). Different heads, or positions that differ,
/// may be written by different threads at once.
void store_keys(KvType type, std::size_t head_dim, const float* x, std::size_t stride, std::size_t rows,
                std::size_t position, void* keys);
void store_values(KvType type, std::size_t head_dim, const float* x, std::size_t stride, std::size_t rows,
                  std::size_t position, void* values);

/// The inverse: positions [position, position + rows) as f32 rows.
void load_keys(KvType type, std::size_t head_dim, const void* keys, std::size_t position, std::size_t rows,
               float* out, std::size_t stride);
void load_values(KvType type, std::size_t head_dim, const void* values, std::size_t position,
                 std::size_t rows, float* out, std::size_t stride);

}  // namespace metal_candle::simd
