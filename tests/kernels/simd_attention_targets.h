// Runs a check on every SIMD target of this machine, and numbers for such checks.
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/simd/target.h"

namespace metal_candle::simd {

template <class F>
void on_every_target(const F& check) {
  const SimdTarget before = active_target();
  for (const SimdTarget target : supported_targets()) {
    SCOPED_TRACE(name(target));
    force_target(target);
    check();
  }
  force_target(before);
}

inline std::vector<float> normal_floats(std::size_t n, unsigned seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

}  // namespace metal_candle::simd
