// Copies floats into memory that nobody reads soon, and says whether they are numbers.
#pragma once

#include <cstddef>

#include "core/dtype.h"

namespace metal_candle::simd {

/// Copies `bytes` of `from`, elements of type f32, f16 or bf16, past the caches to `to`, which is 64-byte
/// aligned and has room for whole lines of 64 (the rest of the last becomes zero). Whether all elements are
/// finite.
bool finite_copy(DType type, const std::byte* from, std::size_t bytes, std::byte* to);

}  // namespace metal_candle::simd
