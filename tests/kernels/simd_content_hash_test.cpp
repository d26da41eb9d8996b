// The hash is XXH3-128 on every target, however its bytes are cut.
#include <gtest/gtest.h>

#define XXH_INLINE_ALL
#define XXH_NO_INLINE_HINTS 1
#include <xxhash.h>

#include "kernels/simd/content_hash.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

TEST(ContentHash, IsXxh3OnEveryTarget) {
  const auto values = normal_floats(50'000, 3);
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  on_every_target([&] {
    for (const std::size_t size : {0, 1, 16, 17, 240, 241, 256, 1024, 1025, 200'000}) {
      XXH128_canonical_t want;
      XXH128_canonicalFromHash(&want, XXH3_128bits(bytes, size));
      for (const std::size_t piece : {1, 63, 256, 4096, 200'000}) {
        if (piece == 1 && size > 2000) continue;
        ContentHash hash;
        for (std::size_t at = 0; at < size; at += piece) hash.add(bytes + at, std::min(piece, size - at));
        EXPECT_TRUE(std::ranges::equal(hash.digest(), want.digest)) << size << " in pieces of " << piece;
      }
    }
  });
}

TEST(ContentHash, TextIsHexadecimal) {
  ContentHash hash;
  EXPECT_EQ(hash.text(), "99aa06d3014798d86001c324468d497f");  // xxhsum -H2 of an empty file
  hash.add_value(1.0f);
  EXPECT_EQ(hash.text().size(), 32u);
}

}  // namespace
}  // namespace metal_candle::simd
