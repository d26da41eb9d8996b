#include "kernels/compute_pool.h"

#include <memory>

#include "kernels/simd/target.h"

namespace metal_candle {
namespace {

std::unique_ptr<ThreadPool>& pool() {
  static auto instance = [] {
    simd::active_target();  // METAL_CANDLE_SIMD holds for Highway's kernels too, from their first call on
    return std::make_unique<ThreadPool>(ThreadPool::default_threads());
  }();
  return instance;
}

}  // namespace

ThreadPool& compute_pool() { return *pool(); }

void set_compute_threads(unsigned threads) {
  const unsigned wanted = threads == 0 ? ThreadPool::default_threads() : threads;
  if (pool()->size() != wanted) pool() = std::make_unique<ThreadPool>(wanted);
}

}  // namespace metal_candle
