// The learning rate's course over a run.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "metal_candle/train.h"

namespace metal_candle {

double LRScheduler::factor(std::uint64_t step, std::uint64_t steps) const {
  const std::uint64_t warm = kind == Kind::warmup_cosine && warmup == 0 ? steps / 10 : warmup;
  if (step < warm) return static_cast<double>(step + 1) / static_cast<double>(warm + 1);
  if (kind == Kind::constant || steps <= warm) return 1;
  const double done = std::min(1.0, static_cast<double>(step - warm) / static_cast<double>(steps - warm));
  const double share = kind == Kind::linear ? 1 - done : (1 + std::cos(std::numbers::pi * done)) / 2;
  return final_share + (1 - final_share) * share;
}

}  // namespace metal_candle
