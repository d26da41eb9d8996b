#include "kernels/simd/product_rows.h"

#include <cstring>

#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
namespace {

bool rounds_to_bf16([[maybe_unused]] Products kind) noexcept {
#if defined(__x86_64__)
  return kind == Products::bf16 && active_target() == SimdTarget::avx512_bf16;
#else
  return false;
#endif
}

}  // namespace

std::size_t product_row_bytes(Products kind, std::size_t k) {
  if (kind == Products::int8) return k / 32 * sizeof(ActBlock);
  return rounds_to_bf16(kind) ? 4 * bf16_pairs(k) : k * sizeof(float);
}

void store_product_row(Products kind, const float* x, std::size_t n, std::size_t column, std::byte* row) {
  if (kind == Products::int8) {
    return prepare_activations(DType::q8_0, x, n, row + column / 32 * sizeof(ActBlock));
  }
#if defined(__x86_64__)
  if (rounds_to_bf16(kind)) return bf16_activations(x, n, reinterpret_cast<std::uint8_t*>(row) + 2 * column);
#endif
  std::memcpy(row + column * sizeof(float), x, n * sizeof(float));
}

void multiply_rows(Products kind, const WeightFormat& weight, std::size_t k, const std::byte* tile,
                   const std::byte* first_row, std::size_t rows, float* out) {
#if defined(__x86_64__)
  if (rounds_to_bf16(kind)) {
    return bf16_product(DType::bf16, k, reinterpret_cast<const std::uint8_t*>(tile),
                        reinterpret_cast<const std::uint8_t*>(first_row), 4 * bf16_pairs(k), rows, out,
                        kTileRows);
  }
#endif
  linear_tile(weight, k, tile, first_row, product_row_bytes(kind, k), rows, out, kTileRows);
}

}  // namespace metal_candle::simd
