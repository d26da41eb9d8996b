#include "inference/rng.h"

#include <random>

namespace metal_candle {
namespace {

// Steele, Lea, Flood 2014.
std::uint64_t split_mix(std::uint64_t& state) noexcept {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

Rng::U128 split_mix_128(std::uint64_t& state) noexcept {
  const Rng::U128 high = split_mix(state);
  return (high << 64) | split_mix(state);
}

}  // namespace

Rng::Rng(std::uint64_t seed) noexcept {
  state_ = split_mix_128(seed);
  increment_ = split_mix_128(seed) | 1;
}

std::uint64_t random_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

}  // namespace metal_candle
