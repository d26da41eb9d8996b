#include "kernels/simd/content_hash_avx2.h"

#define XXH_INLINE_ALL
#define XXH_NO_INLINE_HINTS 1
#include <xxhash.h>

namespace metal_candle::simd {

void xxh3_update_avx2(void* state, const void* data, std::size_t bytes) {
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state), data, bytes);
}

}  // namespace metal_candle::simd
