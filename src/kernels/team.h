// The threads that walk one computation together: all of a pool's, or one alone. No work of its own.
#pragma once

#include <cstddef>

#include "core/thread_pool.h"

namespace metal_candle {

/// One member's view, valid inside ThreadPool::run(). Every member calls the same functions in the same
/// order.
struct Team {
  unsigned index = 0;
  unsigned size = 1;           ///< 1, or all threads of `pool`
  ThreadPool* pool = nullptr;  ///< needed if size > 1

  struct Share {
    std::size_t begin, end;
  };
  /// This member's part of [0, n).
  Share share(std::size_t n) const { return {n * index / size, n * (index + 1) / size}; }

  /// Waits for all members; what they wrote before is then visible to each.
  void barrier() const {
    if (size > 1) pool->barrier();
  }
};

}  // namespace metal_candle
