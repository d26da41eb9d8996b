// The pool that every kernel of the process computes on. Not a scheduler: one region at a time.
#pragma once

#include "core/thread_pool.h"

namespace metal_candle {

/// The process's pool; made on first use with ThreadPool::default_threads().
ThreadPool& compute_pool();

/// Replaces the pool by one of `threads` (0: the default). No kernel may be running.
void set_compute_threads(unsigned threads);

}  // namespace metal_candle
