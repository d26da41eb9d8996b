// Dense products of bfloat16 pairs (AVX512_BF16): linear_avx512_bf16.cpp offers them to linear.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

/// Pairs of inputs that k inputs fill; an odd last one is padded with zero.
constexpr std::size_t bf16_pairs(std::size_t k) { return (k + 1) / 2; }

/// x[k], rounded to nearest even, as bf16_pairs(k) pairs.
void bf16_activations(const float* x, std::size_t k, std::uint8_t* out);
/// The same after a 1: a half row (linear_half.h) of bf16.
void bf16_row(const float* x, std::size_t k, std::byte* out);

/// A packed f32 or f16 tile as a bf16 one, rounded to nearest even: pays from kBf16ExpandRows rows on.
inline constexpr std::size_t kBf16ExpandRows = 24;
void bf16_expand(DType type, std::size_t k, const std::uint8_t* tile, std::uint8_t* out);

/// out = acts · tileᵀ for a packed dense tile (linear_layout.h), rounded to bf16 to nearest even, and rows of
/// bf16 pairs `acts_stride` bytes apart; sums in f32, by pairs.
void bf16_product(DType type, std::size_t k, const std::uint8_t* tile, const std::uint8_t* acts,
                  std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride);

}  // namespace metal_candle::simd
