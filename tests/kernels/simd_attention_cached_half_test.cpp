// What float16 does not hold of a prompt's attention is computed in f32, vector by vector.
#include <algorithm>
#include <cmath>

#include "kernels/simd/attention.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

constexpr std::size_t kDim = 64, kGroup = 3, kLength = 150;

/// A prompt over an f16 cache; queries [row][head][dim].
struct Prompt {
  std::vector<float> q = normal_floats(kLength * kGroup * kDim, 1), k = normal_floats(kLength * kDim, 2),
                     v = normal_floats(kLength * kDim, 3);
  AttentionParams params{.head_dim = kDim, .group = kGroup, .scale = 0.125f};

  /// Rows [first, first + rows), each at its place in a result of all of them.
  std::vector<float> run(bool exact, std::size_t first = 0, std::size_t rows = kLength) const {
    std::vector<std::byte> keys(kv_bytes(KvType::f16, kDim, kLength)), values(keys.size());
    store_keys(KvType::f16, kDim, k.data(), kDim, kLength, 0, keys.data());
    store_values(KvType::f16, kDim, v.data(), kDim, kLength, 0, values.data());
    std::vector<float> out(q.size());
    const std::size_t width = kGroup * kDim, at = first * width;
    attend(params, {KvType::f16, keys.data(), values.data()}, {q.data() + at, width, kDim}, rows, first,
           first + rows, {out.data() + at, width, kDim}, exact);
    return out;
  }
  float* query(std::size_t row, std::size_t head) { return &q[(row * kGroup + head) * kDim]; }
};

void expect_row(const std::vector<float>& got, const std::vector<float>& want, std::size_t row,
                std::size_t head, double tolerance) {
  for (std::size_t d = 0; d < kDim; ++d) {
    const std::size_t i = (row * kGroup + head) * kDim + d;
    ASSERT_NEAR(got[i], want[i], tolerance) << "row " << row << " head " << head << " dim " << d;
  }
}

TEST(SimdAttentionCachedHalf, ScoresBeyondFloat16AreThoseOfFloats) {
  on_every_target([] {
    if (active_target() == SimdTarget::avx512_bf16) return;  // rounds scores of every size
    for (const float size : {200.0f, 4e3f, 1e6f}) {          // the last is infinite in float16
      Prompt p;
      for (std::size_t d = 0; d < kDim; ++d) p.query(40, 1)[d] *= size;
      const auto exact = p.run(true), fast = p.run(false);
      for (std::size_t row = 0; row < kLength; ++row)
        for (std::size_t h = 0; h < kGroup; ++h)
          expect_row(fast, exact, row, h, row == 40 && h == 1 ? 1e-6 : 6e-3);
    }
  });
}

// Products of +-90,000 that cancel: the sums on the way are infinite, the score is not.
TEST(SimdAttentionCachedHalf, SumsThatOverflowOnTheWayAreThoseOfFloats) {
  on_every_target([] {
    if (active_target() == SimdTarget::avx512_bf16) return;
    for (const float sign : {1.0f, -1.0f})
      for (const std::size_t other : {1, 40}) {  // within a sum of float16, and in the next
        Prompt p;
        p.query(100, 0)[0] = p.query(100, 0)[other] = 2000;
        for (std::size_t key = 0; key < kLength; ++key) p.k[key * kDim] = p.k[key * kDim + other] = 0;
        p.k[9 * kDim] = sign * 250;
        p.k[9 * kDim + other] = -sign * 250;
        const auto exact = p.run(true), fast = p.run(false);
        expect_row(fast, exact, 100, 0, 1e-6);
        expect_row(fast, exact, 100, 1, 0.2);  // scores of some 30 each way; they lose 2^-7
      }
  });
}

TEST(SimdAttentionCachedHalf, LargeValuesAreThoseOfFloats) {
  on_every_target([] {
    if (active_target() == SimdTarget::avx512_bf16) return;
    Prompt p;
    std::fill(p.k.begin(), p.k.end(), 0.0f);
    for (std::size_t i = 0; i < kLength; ++i) p.v[i * kDim + 7] = 60000;  // sums of two are infinite
    const auto exact = p.run(true), fast = p.run(false);
    for (std::size_t row = 1; row < kLength; ++row) expect_row(fast, exact, row, 2, 1e-6 * 60000);
  });
}

TEST(SimdAttentionCachedHalf, NoRowDependsOnThoseItSharesAPassWith) {
  on_every_target([] {
    Prompt p;
    for (std::size_t d = 0; d < kDim; ++d) p.query(33, 2)[d] *= 300;
    for (const std::size_t window : {0, 20}) {
      p.params.window = window;
      if (window > 0 && active_target() != SimdTarget::avx512_fp16) return;  // f32 begins where a pass does
      const auto whole = p.run(false);
      for (const std::size_t first : {0, 16, 31, 90}) {
        const auto piece = p.run(false, first, 37);
        const std::size_t at = first * kGroup * kDim;
        for (std::size_t i = at; i < at + 37 * kGroup * kDim; ++i) {
          if (window > 0 && i / kDim == 33 * kGroup + 2) continue;  // in f32
          ASSERT_EQ(whole[i], piece[i]) << first;
        }
      }
    }
  });
}

}  // namespace
}  // namespace metal_candle::simd
