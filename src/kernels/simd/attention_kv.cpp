#include "kernels/simd/attention_kv.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/simd/convert.h"
#include "kernels/simd/transpose.h"

namespace metal_candle::simd {
namespace {

/// One row as the words of the cache type, padded to kv_dim. head_dim is at most 512 here.
struct PackedRow {
  alignas(64) float wide[512];
  alignas(64) std::uint16_t narrow[512];
};

std::size_t bytes_of(KvType type) { return type == KvType::f32 ? 4 : 2; }

/// Element (x, y) of a matrix [X][width] whose bf16 form pairs rows 2i and 2i + 1.
std::size_t paired_offset(KvType type, std::size_t x, std::size_t y, std::size_t width) {
  return type == KvType::bf16 ? ((x / 2) * width + y) * 2 + x % 2 : x * width + y;
}

const void* narrowed(KvType type, const float* x, std::size_t head_dim, PackedRow& row) {
  const std::size_t dim = kv_dim(head_dim);
  if (type == KvType::f32 && dim == head_dim) return x;
  std::memcpy(row.wide, x, head_dim * sizeof(float));
  std::memset(row.wide + head_dim, 0, (dim - head_dim) * sizeof(float));
  if (type == KvType::f32) return row.wide;
  (type == KvType::f16 ? f32_to_f16 : f32_to_bf16)(row.wide, dim, row.narrow);
  return row.narrow;
}

void widened(KvType type, const PackedRow& row, std::size_t head_dim, float* out) {
  if (type == KvType::f32) {
    std::memcpy(out, row.wide, head_dim * sizeof(float));
  } else {
    (type == KvType::f16 ? f16_to_f32 : bf16_to_f32)(row.narrow, head_dim, out);
  }
}

/// One row as codes and their scale. A row that is not finite has no codes; its scale makes all of it NaN.
struct Codes {
  alignas(64) std::int8_t code[512];
  float scale;
};

void quantize(const float* x, std::size_t head_dim, Codes& out) {
  float largest = 0;
  bool finite = true;
  for (std::size_t i = 0; i < head_dim; ++i) {
    finite &= std::isfinite(x[i]);
    largest = std::max(largest, std::fabs(x[i]));
  }
  out.scale = finite ? largest / 127 : std::numeric_limits<float>::quiet_NaN();
  const float inverse = finite && largest > 0 ? 127 / largest : 0;
  for (std::size_t i = 0; i < kv_dim(head_dim); ++i)
    out.code[i] =
        i < head_dim && finite ? static_cast<std::int8_t>(std::lrint(x[i] * inverse)) : std::int8_t{0};
}

void dequantize(const Codes& codes, std::size_t head_dim, float* out) {
  for (std::size_t i = 0; i < head_dim; ++i) out[i] = static_cast<float>(codes.code[i]) * codes.scale;
}

/// Copies words between a row, contiguous, and a stride of words in the cache.
template <class Word>
void spread(const void* from, std::size_t count, void* to, std::size_t begin, std::size_t stride) {
  const Word* source = static_cast<const Word*>(from);
  Word* target = static_cast<Word*>(to) + begin;
  for (std::size_t i = 0; i < count; ++i) target[i * stride] = source[i];
}

template <class Word>
void collect(const void* from, std::size_t begin, std::size_t stride, std::size_t count, void* to) {
  const Word* source = static_cast<const Word*>(from) + begin;
  Word* target = static_cast<Word*>(to);
  for (std::size_t i = 0; i < count; ++i) target[i] = source[i * stride];
}

struct Place {
  std::size_t block;  // first byte of the block
  std::size_t slot;   // position within it
};

Place place(KvType type, std::size_t head_dim, std::size_t position) {
  return {position / kKvBlock * kv_block_bytes(type, head_dim), position % kKvBlock};
}

/// A whole block of keys in f16 or bf16.
void store_key_block(KvType type, std::size_t head_dim, const float* x, std::size_t stride, char* block) {
  PackedRow row;
  alignas(64) std::uint16_t rows[kKvBlock * 512];
  const std::size_t dim = kv_dim(head_dim);
  for (std::size_t r = 0; r < kKvBlock; ++r)
    std::memcpy(rows + r * dim, narrowed(type, x + r * stride, head_dim, row), dim * sizeof *rows);
  const auto* from = reinterpret_cast<const std::byte*>(rows);
  auto* to = reinterpret_cast<std::byte*>(block);
  if (type == KvType::f16)
    transpose_16(from, kKvBlock, dim, to, 1);
  else
    transpose_32(from, kKvBlock, dim / 2, to, 1);  // pairs of dimensions stay together
}

}  // namespace

void store_keys(KvType type, std::size_t head_dim, const float* x, std::size_t stride, std::size_t rows,
                std::size_t position, void* keys) {
  PackedRow row;
  Codes codes;
  const std::size_t dim = kv_dim(head_dim);
  for (std::size_t r = 0; r < rows; ++r) {
    const auto [offset, slot] = place(type, head_dim, position + r);
    char* block = static_cast<char*>(keys) + offset;
    if (slot == 0 && rows - r >= kKvBlock && (type == KvType::f16 || type == KvType::bf16)) {
      store_key_block(type, head_dim, x + r * stride, stride, block);
      r += kKvBlock - 1;
      continue;
    }
    if (type == KvType::int8) {
      quantize(x + r * stride, head_dim, codes);
      spread<std::int8_t>(codes.code, dim, block, slot, kKvBlock);
      std::memcpy(block + dim * kKvBlock + slot * sizeof(float), &codes.scale, sizeof(float));
      continue;
    }
    const void* words = narrowed(type, x + r * stride, head_dim, row);
    // In bf16, dims 2i and 2i + 1 of a row stay neighbours: one 32-bit word.
    if (type == KvType::f16) {
      spread<std::uint16_t>(words, dim, block, slot, kKvBlock);
    } else {
      spread<std::uint32_t>(words, type == KvType::bf16 ? dim / 2 : dim, block, slot, kKvBlock);
    }
  }
}

void store_values(KvType type, std::size_t head_dim, const float* x, std::size_t stride, std::size_t rows,
                  std::size_t position, void* values) {
  PackedRow row;
  Codes codes;
  const std::size_t dim = kv_dim(head_dim);
  for (std::size_t r = 0; r < rows; ++r) {
    const auto [offset, slot] = place(type, head_dim, position + r);
    char* block = static_cast<char*>(values) + offset;
    if (type == KvType::int8) {
      quantize(x + r * stride, head_dim, codes);
      char* const to = block + slot * (dim + sizeof(float));
      std::memcpy(to, codes.code, dim);
      std::memcpy(to + dim, &codes.scale, sizeof(float));
      continue;
    }
    const void* words = narrowed(type, x + r * stride, head_dim, row);
    if (type == KvType::bf16) {
      spread<std::uint16_t>(words, dim, block, paired_offset(type, slot, 0, dim), 2);
    } else {
      std::memcpy(block + slot * dim * bytes_of(type), words, dim * bytes_of(type));
    }
  }
}

void load_keys(KvType type, std::size_t head_dim, const void* keys, std::size_t position, std::size_t rows,
               float* out, std::size_t stride) {
  PackedRow row;
  Codes codes;
  const std::size_t dim = kv_dim(head_dim);
  for (std::size_t r = 0; r < rows; ++r) {
    const auto [offset, slot] = place(type, head_dim, position + r);
    const char* block = static_cast<const char*>(keys) + offset;
    if (type == KvType::int8) {
      collect<std::int8_t>(block, slot, kKvBlock, dim, codes.code);
      std::memcpy(&codes.scale, block + dim * kKvBlock + slot * sizeof(float), sizeof(float));
      dequantize(codes, head_dim, out + r * stride);
      continue;
    }
    if (type == KvType::f16) {
      collect<std::uint16_t>(block, slot, kKvBlock, dim, row.narrow);
    } else if (type == KvType::bf16) {
      collect<std::uint32_t>(block, slot, kKvBlock, dim / 2, row.narrow);
    } else {
      collect<float>(block, slot, kKvBlock, dim, row.wide);
    }
    widened(type, row, head_dim, out + r * stride);
  }
}

void load_values(KvType type, std::size_t head_dim, const void* values, std::size_t position,
                 std::size_t rows, float* out, std::size_t stride) {
  PackedRow row;
  Codes codes;
  const std::size_t dim = kv_dim(head_dim);
  for (std::size_t r = 0; r < rows; ++r) {
    const auto [offset, slot] = place(type, head_dim, position + r);
    const char* block = static_cast<const char*>(values) + offset;
    if (type == KvType::int8) {
      const char* const from = block + slot * (dim + sizeof(float));
      std::memcpy(codes.code, from, dim);
      std::memcpy(&codes.scale, from + dim, sizeof(float));
      dequantize(codes, head_dim, out + r * stride);
      continue;
    }
    if (type == KvType::bf16) {
      collect<std::uint16_t>(block, paired_offset(type, slot, 0, dim), 2, dim, row.narrow);
    } else if (type == KvType::f16) {
      std::memcpy(row.narrow, block + slot * dim * 2, dim * 2);
    } else {
      std::memcpy(row.wide, block + slot * dim * 4, dim * 4);
    }
    widened(type, row, head_dim, out + r * stride);
  }
}

}  // namespace metal_candle::simd
