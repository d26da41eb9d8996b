#include "kernels/packed_panels.h"

#include <algorithm>

#include "kernels/compute_pool.h"
#include "kernels/gemm_pack.h"

namespace metal_candle {

void PackedPanels::pack(const simd::GemmKernel& kernel, const RowSource& b, bool b_transposed, std::size_t k,
                        std::size_t n) {
  const GemmTerm term{{}, &b, b_transposed, k, 0, n};
  kernel_ = &kernel;
  step_ = stretch_depth(k);
  panels_ = ceil_div(n, kernel.columns);
  const std::size_t stretches = ceil_div(k, step_), rest = k - (stretches - 1) * step_;
  data_ = memory_.get<std::byte>(offset(k - rest, rest, panels_ * kernel.columns));
  compute_pool().parallel_for(stretches * panels_, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t row = i / panels_ * step_, column = i % panels_ * kernel.columns;
      const std::size_t depth = std::min(step_, k - row);
      pack_panel(kernel, term, row, depth, column, data_ + offset(row, depth, column));
    }
  });
}

}  // namespace metal_candle
