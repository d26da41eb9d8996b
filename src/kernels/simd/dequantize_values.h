// The last step of dequantization: codes times scales. What codes and scales of a format are is
// quant_formats.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simd/quant_formats.h"

namespace metal_candle::simd {

/// out[i] = scale * (codes[i] - offset) (+ min), rounded after each operation, for `groups` groups of `size`
/// codes, 16 or 32.
void code_values(const std::uint8_t* codes, int offset, const Affine* affine, std::size_t groups,
                 std::size_t size, bool has_min, float* out);

}  // namespace metal_candle::simd
