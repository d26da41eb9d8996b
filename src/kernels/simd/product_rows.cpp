#include "kernels/simd/product_rows.h"

#include <cstring>

#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_int8.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
namespace {

/// What a row holds. int8_blocks are linear.h's, with a scale every 32.
enum class Form { floats, bf16, f16, int8_blocks, int8_runs };

Form form_of(Products kind, std::size_t k) noexcept {
  if (kind == Products::f32) return Form::floats;
  const SimdTarget target = active_target();
  const bool bf16 = target == SimdTarget::avx512_bf16, f16 = target == SimdTarget::avx512_fp16;
  if (kind == Products::half) return bf16 ? Form::bf16 : f16 ? Form::f16 : Form::floats;
  const bool vnni = bf16 || f16 || target == SimdTarget::avx512_vnni;
  return vnni && k % 64 == 0 ? Form::int8_runs : Form::int8_blocks;
}

}  // namespace

DType half_weight_type() noexcept {
  return form_of(Products::half, 0) == Form::f16 ? DType::f16 : DType::bf16;
}

WeightFormat int8_weight_format(std::size_t k) noexcept {
  return WeightFormat::affine(8, k % 64 == 0 ? 64 : 32, DType::f32);
}

std::size_t product_row_bytes(Products kind, std::size_t k) {
  switch (form_of(kind, k)) {
    case Form::bf16: return 4 * bf16_pairs(k);
    case Form::f16: return k * sizeof(std::uint16_t);
    case Form::int8_blocks: return k / 32 * sizeof(ActBlock);
    case Form::int8_runs: return k / 64 * sizeof(Int8Run);
    default: return k * sizeof(float);
  }
}

bool product_rows_are_floats(Products kind) noexcept { return form_of(kind, 0) == Form::floats; }

void store_product_row(Products kind, std::size_t k, const float* x, std::size_t n, std::size_t column,
                       std::byte* row) {
  switch (form_of(kind, k)) {
#if defined(__x86_64__)
    case Form::bf16: return bf16_activations(x, n, reinterpret_cast<std::uint8_t*>(row) + 2 * column);
    case Form::f16: return half_activations(x, n, reinterpret_cast<std::uint16_t*>(row) + column);
    case Form::int8_runs: return int8_activations(x, n, reinterpret_cast<Int8Run*>(row) + column / 64);
#endif
    case Form::int8_blocks:
      return prepare_activations(DType::q8_0, x, n, row + column / 32 * sizeof(ActBlock));
    default: std::memcpy(row + column * sizeof(float), x, n * sizeof(float));
  }
}

void multiply_rows(Products kind, const WeightFormat& weight, std::size_t k, const std::byte* tile,
                   std::size_t tiles, const std::byte* first_row, std::size_t rows, float* out,
                   std::size_t out_stride, const SumStart& start) {
  const std::size_t stride = product_row_bytes(kind, k), tile_bytes = packed_tile_bytes(weight, k);
  const auto each = [&](const auto& multiply) {
    for (std::size_t t = 0; t < tiles; ++t) multiply(tile + t * tile_bytes, out + t * kTileRows);
  };
#if defined(__x86_64__)
  const auto* weights = reinterpret_cast<const std::uint8_t*>(tile);
  switch (form_of(kind, k)) {
    case Form::f16:
      return half_product(DType::f16, k, weights, tiles, reinterpret_cast<const std::uint16_t*>(first_row), k,
                          rows, out, out_stride);
    case Form::int8_runs:
      return int8_product(k, weights, tiles, reinterpret_cast<const Int8Run*>(first_row), rows, out,
                          out_stride);
    case Form::bf16:
      return each([&](const std::byte* from, float* to) {
        bf16_product(DType::bf16, k, reinterpret_cast<const std::uint8_t*>(from),
                     reinterpret_cast<const std::uint8_t*>(first_row), stride, rows, to, out_stride);
      });
    default: break;
  }
#endif
  SumStart from_here = start;
  each([&](const std::byte* from, float* to) {
    linear_tile(weight, k, from, first_row, stride, rows, to, out_stride, DenseProducts::f32, from_here);
    if (from_here.bias) from_here.bias += kTileRows;
  });
}

}  // namespace metal_candle::simd
