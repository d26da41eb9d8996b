// Transposes matrices of 16- or 32-bit words, whatever they stand for. One thread, no arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// out[c * rows + r] = in[r * columns + c], for each of `count` matrices that follow one another; no
/// alignment is needed, and the two must not overlap.
void transpose_16(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
                  std::size_t count);
void transpose_32(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
                  std::size_t count);

}  // namespace metal_candle::simd
