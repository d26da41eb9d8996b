#include "kernels/simd/product_rows.h"

#include <cstring>

#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
namespace {

/// How Products::half is computed on the active target.
enum class Half { as_f32, bf16, f16 };

Half half_products(Products kind) noexcept {
  if (kind != Products::half) return Half::as_f32;
  switch (active_target()) {
    case SimdTarget::avx512_bf16: return Half::bf16;
    case SimdTarget::avx512_fp16: return Half::f16;
    default: return Half::as_f32;
  }
}

}  // namespace

DType half_weight_type() noexcept {
  return half_products(Products::half) == Half::f16 ? DType::f16 : DType::bf16;
}

std::size_t product_row_bytes(Products kind, std::size_t k) {
  if (kind == Products::int8) return k / 32 * sizeof(ActBlock);
  switch (half_products(kind)) {
    case Half::bf16: return 4 * bf16_pairs(k);
    case Half::f16: return k * sizeof(std::uint16_t);
    default: return k * sizeof(float);
  }
}

void store_product_row(Products kind, const float* x, std::size_t n, std::size_t column, std::byte* row) {
  if (kind == Products::int8)
    return prepare_activations(DType::q8_0, x, n, row + column / 32 * sizeof(ActBlock));
#if defined(__x86_64__)
  const Half half = half_products(kind);
  if (half == Half::bf16) return bf16_activations(x, n, reinterpret_cast<std::uint8_t*>(row) + 2 * column);
  if (half == Half::f16) return half_activations(x, n, reinterpret_cast<std::uint16_t*>(row) + column);
#endif
  std::memcpy(row + column * sizeof(float), x, n * sizeof(float));
}

void multiply_rows(Products kind, const WeightFormat& weight, std::size_t k, const std::byte* tile,
                   std::size_t tiles, const std::byte* first_row, std::size_t rows, float* out,
                   std::size_t out_stride) {
#if defined(__x86_64__)
  const Half half = half_products(kind);
  if (half == Half::f16)
    return half_product(k, reinterpret_cast<const std::uint8_t*>(tile), tiles,
                        reinterpret_cast<const std::uint16_t*>(first_row), rows, out, out_stride);
#endif
  for (; tiles > 0; --tiles, tile += packed_tile_bytes(weight, k), out += kTileRows) {
#if defined(__x86_64__)
    if (half == Half::bf16) {
      bf16_product(DType::bf16, k, reinterpret_cast<const std::uint8_t*>(tile),
                   reinterpret_cast<const std::uint8_t*>(first_row), 4 * bf16_pairs(k), rows, out,
                   out_stride);
      continue;
    }
#endif
    linear_tile(weight, k, tile, first_row, product_row_bytes(kind, k), rows, out, out_stride);
  }
}

}  // namespace metal_candle::simd
