#include "kernels/simd/fetch.h"

namespace metal_candle::simd {

#if defined(__x86_64__)
const bool kFetchesAtOnce = __builtin_cpu_is("amd") != 0;
#else
const bool kFetchesAtOnce = false;
#endif

}  // namespace metal_candle::simd
