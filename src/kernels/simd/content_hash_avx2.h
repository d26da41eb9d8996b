// XXH3's inner loop compiled for AVX2, which the library of the system is not.
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// XXH3_128bits_update. Only where the CPU has AVX2.
void xxh3_update_avx2(void* state, const void* data, std::size_t bytes);

}  // namespace metal_candle::simd
