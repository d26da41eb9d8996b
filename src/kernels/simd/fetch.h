// How what is read once comes from memory: measured (docs/kernels.md), and not the same on all cores.
#pragma once

#include "kernels/simd/inline.h"

namespace metal_candle::simd {

/// Whether a core takes lines from memory into L1 at once, as AMD's do best. Others wait for more lines on
/// their way to L2 than to L1.
extern const bool kFetchesAtOnce;

/// Asks for the line at p, which need not be the program's.
MC_INLINE void fetch_line(const void* p) {
  kFetchesAtOnce ? __builtin_prefetch(p) : __builtin_prefetch(p, 0, 2);
}

}  // namespace metal_candle::simd
