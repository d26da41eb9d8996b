// Dropout whose mask is a function of the pass, the layer and the position, so that a backward pass or a
// resumed run draws it again instead of storing it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle {

/// SplitMix64's finaliser: unrelated values for near inputs.
constexpr std::uint64_t mix_bits(std::uint64_t z) noexcept {
  z += 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

/// out[i] = x[i] / (1 - p) or, with probability p, 0: elements [first, first + n) of mask `key`. `out` may be
/// `x`. p < 1.
inline void drop(std::uint64_t key, std::size_t first, const float* x, std::size_t n, float p, float* out) {
  const auto threshold = static_cast<std::uint64_t>(static_cast<double>(p) * 0x1p32);
  const float keep = 1 / (1 - p);
  for (std::size_t i = 0; i < n; ++i)
    out[i] = mix_bits(key + (first + i)) >> 32 < threshold ? 0.0f : x[i] * keep;
}

}  // namespace metal_candle
