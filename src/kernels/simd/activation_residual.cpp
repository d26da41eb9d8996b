#include "kernels/simd/activation_residual.h"

#include <cstring>

#include "kernels/simd/linear_layout.h"

namespace metal_candle::simd {

void activation_residual(const float* x, std::size_t k, const std::byte* row, float* out) {
  for (std::size_t i = 0; i < k; i += 32, row += sizeof(ActBlock)) {
    ActBlock block;
    std::memcpy(&block, row, sizeof block);
    for (std::size_t j = 0; j < 32; ++j) out[i + j] = x[i + j] - block.scale * static_cast<float>(block.q[j]);
  }
}

}  // namespace metal_candle::simd
