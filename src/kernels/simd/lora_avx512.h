// What the AVX-512 kernels of lora_half.h share: how they cut x·Aᵀ into blocks. Included only by files
// compiled for their instruction sets.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/simd/inline.h"

namespace metal_candle::simd {
namespace {

constexpr int kLanes = 32;

MC_INLINE __mmask32 first_words(std::size_t n) { return n < kLanes ? (1u << n) - 1 : 0xffffffffu; }

MC_INLINE const std::uint16_t* values_of(const std::byte* half_row) {
  return reinterpret_cast<const std::uint16_t*>(half_row + sizeof(float));
}

/// Block::multiply<R, J>(a, columns, x, x_stride, out, out_stride): R half rows of x times J rows of A, each
/// sum in the same order whatever R and J are.
template <class Block, int R, int J>
MC_INLINE void shrink_ranks(const std::uint16_t* a, std::size_t rank, std::size_t columns, const std::byte* x,
                            std::size_t x_stride, float* out, std::size_t out_stride) {
  for (; rank >= J; rank -= J, a += J * columns, out += J)
    Block::template multiply<R, J>(a, columns, x, x_stride, out, out_stride);
  if constexpr (J > 1) shrink_ranks<Block, R, J / 2>(a, rank, columns, x, x_stride, out, out_stride);
}

template <class Block>
void shrink_rows(const std::byte* a, std::size_t rank, std::size_t columns, const std::byte* x,
                 std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride) {
  constexpr int R = 6;
  const auto* words = reinterpret_cast<const std::uint16_t*>(a);
  for (; rows >= R; rows -= R, x += R * x_stride, out += R * out_stride)
    shrink_ranks<Block, R, 4>(words, rank, columns, x, x_stride, out, out_stride);
  for (; rows > 0; --rows, x += x_stride, out += out_stride)
    shrink_ranks<Block, 1, 8>(words, rank, columns, x, x_stride, out, out_stride);
}

}  // namespace
}  // namespace metal_candle::simd
