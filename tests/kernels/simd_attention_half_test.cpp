// Attention in float16 against double precision, with every operand against a page that faults.
#include <algorithm>
#include <cmath>

#include "kernels/simd/attention_avx512_fp16.h"
#include "simd_attention_targets.h"
#include "support/guarded.h"

#if defined(__x86_64__)
namespace metal_candle::simd {
namespace {

using test::Guarded;

class SimdAttentionHalf : public testing::Test {
 protected:
  void SetUp() override {
    const auto targets = supported_targets();
    if (std::find(targets.begin(), targets.end(), SimdTarget::avx512_fp16) == targets.end())
      GTEST_SKIP() << "this machine has no AVX512-FP16";
  }
};

/// A sequence as a layer's qkv holds it: rows of `group` queries, a key and a value.
struct Sequence {
  std::size_t dim, group, length, stride;
  std::vector<float> qkv;

  Sequence(std::size_t dim, std::size_t group, std::size_t length, float size = 1)
      : dim(dim), group(group), length(length), stride((group + 2) * dim) {
    qkv = normal_floats(length * stride, 3);
    for (std::size_t i = 0; i < length; ++i)
      for (std::size_t d = 0; d < group * dim; ++d) query(i)[d] *= size;
  }
  float* query(std::size_t i, std::size_t head = 0) { return &qkv[i * stride + head * dim]; }
  float* key(std::size_t i) { return query(i, group); }
  float* value(std::size_t i) { return query(i, group + 1); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(dim)); }

  /// [length][group * dim].
  std::vector<float> run() const {
    const Guarded in(qkv.size() * sizeof(float)), scratch(half_attention_bytes(dim, length));
    const Guarded out(length * group * dim * sizeof(float));
    float* const x = in.as<float>();
    std::copy(qkv.begin(), qkv.end(), x);
    half_attend({.head_dim = dim, .group = group, .scale = scale()}, {x, stride, dim}, x + group * dim,
                x + (group + 1) * dim, stride, length, scratch.data(), {out.as<float>(), group * dim, dim});
    return {out.as<float>(), out.as<float>() + length * group * dim};
  }
  std::vector<double> expected(std::size_t i, std::size_t head) {
    std::vector<double> scores(length), out(dim);
    for (std::size_t j = 0; j < length; ++j)
      for (std::size_t d = 0; d < dim; ++d)
        scores[j] += static_cast<double>(query(i, head)[d]) * key(j)[d] * scale();
    const double top = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (double& s : scores) sum += s = std::exp(s - top);
    for (std::size_t j = 0; j < length; ++j)
      for (std::size_t d = 0; d < dim; ++d) out[d] += scores[j] / sum * value(j)[d];
    return out;
  }
};

// Scores of standard deviation 1, sums of values of about 1.
void expect_close(Sequence s, double tolerance) {
  const auto got = s.run();
  for (std::size_t i = 0; i < s.length; ++i)
    for (std::size_t h = 0; h < s.group; ++h) {
      const auto want = s.expected(i, h);
      for (std::size_t d = 0; d < s.dim; ++d)
        ASSERT_NEAR(got[(i * s.group + h) * s.dim + d], want[d], tolerance)
            << "row " << i << "/" << s.length << " head " << h << " dim " << d << "/" << s.dim;
    }
}

TEST_F(SimdAttentionHalf, LengthsAndHeads) {
  for (const std::size_t length : {1, 2, 15, 16, 31, 32, 33, 64, 100, 128, 129, 300})
    for (const std::size_t group : {1, 3}) expect_close({32, group, length}, 6e-3);
}

TEST_F(SimdAttentionHalf, HeadDims) {
  for (const std::size_t dim : {1, 8, 16, 31, 48, 64, 80, 96, 128})
    for (const std::size_t length : {7, 40, 140}) expect_close({dim, 1, length}, 6e-3);
}

TEST_F(SimdAttentionHalf, ScoresOfDozens) { expect_close({64, 2, 200, 20}, 0.2); }

TEST_F(SimdAttentionHalf, ALongSequenceIsTheMeanOfEqualKeys) {
  Sequence s(32, 1, 2000);
  for (std::size_t i = 0; i < s.length; ++i) std::fill_n(s.key(i), s.dim, 1.0f);
  for (std::size_t i = 0; i < s.length; ++i) std::fill_n(s.value(i), s.dim, 3.0f);
  for (const float y : s.run()) ASSERT_NEAR(y, 3, 3e-3);
}

TEST_F(SimdAttentionHalf, NanReachesItsRow) {
  Sequence s(32, 1, 70);
  const auto before = s.run();
  s.query(33)[5] = std::nanf("");
  const auto after = s.run();
  for (std::size_t i = 0; i < after.size(); ++i) {
    if (i / s.dim == 33) {
      ASSERT_TRUE(std::isnan(after[i]));
    } else {
      ASSERT_EQ(after[i], before[i]);
    }
  }
  s.query(33)[5] = 0;
  s.key(69)[0] = std::nanf("");
  for (const float y : s.run()) ASSERT_TRUE(std::isnan(y));
}

}  // namespace
}  // namespace metal_candle::simd
#endif
