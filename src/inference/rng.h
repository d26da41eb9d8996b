// The random numbers of sampling: PCG64, the same on every platform. Not for cryptography.
#pragma once

#include <cstdint>

namespace metal_candle {

/// PCG XSL-RR 128/64 (O'Neill 2014, HMC-CS-2014-0905), the generator NumPy calls PCG64.
/// A value type: a copy continues the same sequence. Not thread-safe.
class Rng {
 public:
  using U128 = unsigned __int128;

  /// State and stream come from `seed` through SplitMix64, so that near seeds give unrelated sequences.
  explicit Rng(std::uint64_t seed) noexcept;
  /// The raw state; `increment` must be odd.
  Rng(U128 state, U128 increment) noexcept : state_(state), increment_(increment) {}

  std::uint64_t next() noexcept {
    state_ = state_ * kMultiplier + increment_;
    const auto folded = static_cast<std::uint64_t>(state_ >> 64) ^ static_cast<std::uint64_t>(state_);
    const auto rotation = static_cast<unsigned>(state_ >> 122);
    return (folded >> rotation) | (folded << ((64 - rotation) & 63));
  }

  /// Uniform in [0, 1), a multiple of 2^-53.
  double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  friend bool operator==(const Rng&, const Rng&) = default;

 private:
  static constexpr U128 kMultiplier = (U128{2549297995355413924ULL} << 64) | 4865540595714422341ULL;

  U128 state_;
  U128 increment_;
};

/// A seed from the operating system.
std::uint64_t random_seed();

}  // namespace metal_candle
