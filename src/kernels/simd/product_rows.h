// Rows of activations in the form in which one kind of product takes them, and the product itself. Over
// linear.h, for callers that choose the kind: without the f32 copy that linear.h keeps beside bf16 rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simd/linear.h"

namespace metal_candle::simd {

/// What a product multiplies. f32: floats, by dense weights; half: operands of 16 bits where the target has
/// such products (else rows stay f32), by weights of half_weight_type(); int8: codes with a scale every 64 or
/// 32, by int8_weight_format(). Sums are f32, half's on avx512_fp16 after every 128 products.
enum class Products : std::uint8_t { f32, half, int8 };

/// The element type in which Products::half takes its weights on the active target: f16 on avx512_fp16, no
/// larger than kLargestHalfWeight, else bf16.
DType half_weight_type() noexcept;
/// Of a weight for Products::half.
inline constexpr float kLargestHalfWeight = 1024;

/// In which Products::int8 takes weights of k inputs, a multiple of 32: 8 bits, bias = −128 scale, and scales
/// of at most 22 significant bits.
WeightFormat int8_weight_format(std::size_t k) noexcept;

/// Bytes of a row of k values.
std::size_t product_row_bytes(Products kind, std::size_t k);

/// Whether a row is the k floats themselves, so that it needs no store_product_row().
bool product_rows_are_floats(Products kind) noexcept;

/// Columns [column, column + n) of a row of k values that begins at `row`. column: a multiple of 64; n too,
/// unless it ends the row.
void store_product_row(Products kind, std::size_t k, const float* x, std::size_t n, std::size_t column,
                       std::byte* row);

/// out[r * out_stride + j] = sum over k of row r times row j of `tiles` (1 or 2) tiles, one after another;
/// rows are product_row_bytes(k) apart. A row's result does not depend on `rows`.
/// `start` is for rows that are floats.
void multiply_rows(Products kind, const WeightFormat& weight, std::size_t k, const std::byte* tile,
                   std::size_t tiles, const std::byte* first_row, std::size_t rows, float* out,
                   std::size_t out_stride, const SumStart& start = {});

}  // namespace metal_candle::simd
