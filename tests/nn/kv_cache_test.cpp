#include "nn/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "nn/forward_context.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

constexpr KvShape kShape{simd::KvType::f16, 3, 2, 64};

TEST(KvCache, HeadsOfAllLayersLieApart) {
  KvCache cache(kShape, 40);
  const std::size_t head = simd::kv_bytes(kShape.type, kShape.head_dim, 40);
  EXPECT_EQ(KvCache::bytes(kShape, 40), 2 * 3 * 2 * head);
  int mark = 0;
  for (std::size_t layer = 0; layer < 3; ++layer)
    for (std::size_t h = 0; h < 2; ++h) {
      std::memset(cache.view().keys(layer, h), ++mark, head);
      std::memset(cache.view().values(layer, h), ++mark, head);
    }
  mark = 0;
  for (std::size_t layer = 0; layer < 3; ++layer)
    for (std::size_t h = 0; h < 2; ++h)
      for (const std::byte* p : {cache.view().keys(layer, h), cache.view().values(layer, h)}) {
        ++mark;
        EXPECT_EQ(static_cast<int>(p[0]), mark);
        EXPECT_EQ(static_cast<int>(p[head - 1]), mark);
      }
}

TEST(KvCache, LengthsGrowAndAreCut) {
  KvCache cache(kShape, 40);
  cache.advance(7);
  cache.truncate(9);
  EXPECT_EQ(cache.length(), 7u);
  cache.truncate(3);
  EXPECT_EQ(cache.length(), 3u);
}

TEST(KvCache, AbsurdSizesAreAnError) {
  EXPECT_MC_ERROR(KvCache({simd::KvType::f32, 1u << 20, 1u << 10, 256}, std::size_t{1} << 34),
                  ErrorCode::out_of_memory, "context size");
}

TEST(ForwardContext, PositionsContinueEachCacheAndFullOnesAreRefused) {
  KvCache a(kShape, 8), b(kShape, 8);
  a.advance(5);
  const std::vector<float> frequencies(32, 1.0f);
  const auto stream = mlx::core::default_stream(mlx::core::Device::cpu);
  const std::vector<SequenceRows> rows{{&a, 3}, {&b, 2}};
  const ForwardContext ctx = ForwardContext::make(rows, frequencies, stream);
  EXPECT_EQ(ctx.attention->sequences[0].position, 5u);
  EXPECT_EQ(ctx.attention->sequences[1].first_row, 3u);
  EXPECT_EQ(ctx.attention->sequences[1].position, 0u);
  EXPECT_NEAR(ctx.attention->cos[0], std::cos(5.0), 1e-6);
  EXPECT_NEAR(ctx.attention->sin[4 * 32], std::sin(1.0), 1e-6);
  EXPECT_EQ(ctx.exact_rows, 5u);
  const std::vector<SequenceRows> mixed{{&a, 1}, {&b, 1, kLongPrompt}},
      reversed{{&a, 1, kLongPrompt}, {&b, 1}};
  EXPECT_EQ(ForwardContext::make(mixed, frequencies, stream).exact_rows, 1u);
  EXPECT_MC_ERROR(ForwardContext::make(reversed, frequencies, stream), ErrorCode::invalid_argument, "exact");
  const std::vector<SequenceRows> too_many{{&a, 4}};
  EXPECT_MC_ERROR(ForwardContext::make(too_many, frequencies, stream), ErrorCode::context_overflow,
                  "8 positions");
}

}  // namespace
}  // namespace metal_candle
