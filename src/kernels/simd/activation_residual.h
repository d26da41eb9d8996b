// What rounding activations to int8 left over, so that it can be multiplied as a second row where one row of
// int8 is not precise enough.
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// out[i] = x[i] - what `row`, prepared from x[k] for a quantized weight, stands for. k is a multiple of 32.
void activation_residual(const float* x, std::size_t k, const std::byte* row, float* out);

}  // namespace metal_candle::simd
