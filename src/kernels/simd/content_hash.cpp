#include "kernels/simd/content_hash.h"

#define XXH_INLINE_ALL
#define XXH_NO_INLINE_HINTS 1
#include <xxhash.h>

#include <algorithm>
#include <new>
#include <string_view>

#include "kernels/simd/content_hash_avx2.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {

ContentHash::ContentHash() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_128bits_reset(static_cast<XXH3_state_t*>(state_));
}

ContentHash::~ContentHash() { XXH3_freeState(static_cast<XXH3_state_t*>(state_)); }

void ContentHash::add(const void* data, std::size_t bytes) {
#if defined(__x86_64__)
  if (active_target() >= SimdTarget::avx2) return xxh3_update_avx2(state_, data, bytes);
#endif
  XXH3_128bits_update(static_cast<XXH3_state_t*>(state_), data, bytes);
}

std::array<unsigned char, 16> ContentHash::digest() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state_)));
  std::array<unsigned char, 16> out;
  std::copy_n(canonical.digest, out.size(), out.begin());
  return out;
}

std::string ContentHash::text() const {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : digest()) out += {kHex[byte >> 4], kHex[byte & 15]};
  return out;
}

}  // namespace metal_candle::simd
