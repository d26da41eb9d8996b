// The inner product of attention with AVX-512's dot products of bf16 pairs, two multiply-adds where f32 does
// one. Raw loops only; attention.cpp calls them when active_target() is avx512_bf16. Not compiled for other
// processors.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// Rounds n floats (a multiple of 32, or of 16 and readable and writable up to the next 32) to bf16 in place:
/// pair i, the even one low, becomes the 32-bit word i of x. Nearest even; subnormals become zero.
void bf16_pairs_in_place(float* x, std::size_t n);

/// Rows of f16 [rows][width], both even, width a multiple of 16, to pairs of rows in bf16 [rows / 2][width]:
/// the even row in the low half of a word.
void bf16_pairs_of_f16(const std::uint16_t* x, std::size_t rows, std::size_t width, std::uint32_t* out);

/// c[r][16p + j] = (add ? c : 0) + sum over k < depth of a[r][k] b(k, j) in panel p. Rows of a and c lie
/// `lead` words apart; a holds pairs as above, b as the bf16 cache does: word (k / 2, j) of panel p is b[p *
/// panel + k / 2 * pair
/// + j]. If depth is odd, what the last pair's upper half holds does not matter in b and must be zero in a.
void bf16_product(const float* a, const std::uint32_t* b, std::size_t panel, std::size_t pair,
                  std::size_t rows, std::size_t depth, std::size_t panels, bool add, std::size_t lead,
                  float* c);

}  // namespace metal_candle::simd
