#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/simd/attention.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

/// A cache with keys and values that were rounded to its type: what the reference must see too.
struct Cache {
  KvType type;
  std::size_t dim, length;
  std::vector<float> k, v;         // [length][dim] as stored
  std::vector<char> keys, values;  // the packed form; bytes beyond `length` are all ones: NaN
  KvHead head() const { return {type, keys.data(), values.data()}; }

  Cache(KvType t, std::size_t d, std::size_t n, unsigned seed, float scale = 1)
      : type(t), dim(d), length(n), k(normal_floats(n * d, seed, scale)), v(normal_floats(n * d, seed + 1)) {
    keys.assign(kv_bytes(t, d, n), '\xff');
    values = keys;
    store();
  }
  void store() {
    store_keys(type, dim, k.data(), dim, length, 0, keys.data());
    store_values(type, dim, v.data(), dim, length, 0, values.data());
    load_keys(type, dim, keys.data(), 0, length, k.data(), dim);
    load_values(type, dim, values.data(), 0, length, v.data(), dim);
  }
};

bool sees(const AttentionParams& p, std::size_t i, std::size_t j) {
  if (p.causal && j > i) return false;
  if (p.window == 0) return true;
  return (i >= j ? i - j : j - i) < p.window;
}

/// One query vector in double: softmax over the keys it sees in [begin, end), by the formula.
std::vector<double> reference(const AttentionParams& p, const Cache& c, const float* q, std::size_t position,
                              std::size_t begin, std::size_t end) {
  std::vector<double> scores, out(c.dim);
  std::vector<std::size_t> seen;
  for (std::size_t j = begin; j < end; ++j) {
    if (!sees(p, position, j)) continue;
    double s = 0;
    for (std::size_t d = 0; d < c.dim; ++d) s += static_cast<double>(q[d]) * c.k[j * c.dim + d];
    s *= p.scale;
    if (p.relative_bias)
      s += p.relative_bias[static_cast<std::ptrdiff_t>(j) - static_cast<std::ptrdiff_t>(position)];
    if (p.softcap > 0) s = p.softcap * std::tanh(s / p.softcap);
    scores.push_back(s);
    seen.push_back(j);
  }
  const double max = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& s : scores) sum += s = std::exp(s - max);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    for (std::size_t d = 0; d < c.dim; ++d) out[d] += scores[i] / sum * c.v[seen[i] * c.dim + d];
  }
  return out;
}

/// Scores of size about 1 to 10 carry f32 errors near 1e-6, values are about 1. The bf16 products round query
/// and probabilities to 2^-9: a score of standard deviation 1 moves by some 2^-9. An f16 cache is rounded
/// like them: twice as many roundings, at random signs. Float16 rounds a score of 8 by 2^-8 and its
/// probability with it; the results that it leaves to f32 are not told apart here.
double tolerance(const AttentionParams& p, KvType type, bool exact) {
  if (exact || type == KvType::f32 || type == KvType::int8) return 1e-5;
  if (active_target() == SimdTarget::avx512_bf16) return type == KvType::bf16 ? 1.5e-2 : 2.1e-2;
  const bool half = active_target() == SimdTarget::avx512_fp16 && type == KvType::f16 && p.softcap == 0 &&
                    p.relative_bias == nullptr;
  return half ? 1e-2 : 1e-5;
}

void expect_attend(const AttentionParams& p, const Cache& c, std::size_t rows, std::size_t first,
                   bool exact) {
  const std::size_t stride = p.group * p.head_dim + 3, head_stride = p.head_dim;
  const auto q = normal_floats(rows * stride, 21);
  std::vector<float> out(rows * stride, 42.0f);
  attend(p, c.head(), {q.data(), stride, head_stride}, rows, first, c.length,
         {out.data(), stride, head_stride}, exact);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t h = 0; h < p.group; ++h) {
      const float* got = out.data() + r * stride + h * head_stride;
      const auto want = reference(p, c, q.data() + r * stride + h * head_stride, first + r, 0, c.length);
      for (std::size_t d = 0; d < p.head_dim; ++d) {
        ASSERT_NEAR(got[d], want[d], tolerance(p, c.type, exact))
            << "row " << r << "/" << rows << " head " << h << " dim " << d << "/" << p.head_dim << " length "
            << c.length;
      }
    }
    for (std::size_t d = p.group * p.head_dim; d < stride; ++d) ASSERT_EQ(out[r * stride + d], 42.0f);
  }
}

void expect_attend(const AttentionParams& p, const Cache& c, std::size_t rows, std::size_t first) {
  for (const bool exact : {true, false}) expect_attend(p, c, rows, first, exact);
}

AttentionParams make_params(std::size_t dim, std::size_t group) {
  return {.head_dim = dim, .group = group, .scale = 1 / std::sqrt(static_cast<float>(dim))};
}

class SimdAttention : public testing::TestWithParam<KvType> {};
std::string type_name(const testing::TestParamInfo<KvType>& info) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "int8"};
  return kNames[static_cast<std::size_t>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Types, SimdAttention,
                         testing::Values(KvType::f32, KvType::f16, KvType::bf16, KvType::int8), type_name);

TEST_P(SimdAttention, CacheRoundTrip) {
  on_every_target([] {
    for (std::size_t dim : {1, 8, 24, 64, 80, 256}) {
      const std::size_t n = 37;
      const auto x = normal_floats(n * dim, 22);
      std::vector<char> bytes(kv_bytes(GetParam(), dim, n));
      std::vector<float> back(n * dim);
      const auto largest = [&](std::size_t i) {  // of its row
        float out = 0;
        for (std::size_t d = 0; d < dim; ++d) out = std::max(out, std::fabs(x[i / dim * dim + d]));
        return out;
      };
      const auto tolerance = [&](std::size_t i) -> double {
        if (GetParam() == KvType::int8) return largest(i) / 254 * 1.0001;
        const double step = GetParam() == KvType::f32   ? 0
                            : GetParam() == KvType::f16 ? 1.0 / 2048
                                                        : 1.0 / 256;
        return std::fabs(x[i]) * step + step * 1e-4;
      };
      // In two pieces, the border inside a block.
      store_keys(GetParam(), dim, x.data(), dim, 21, 0, bytes.data());
      store_keys(GetParam(), dim, x.data() + 21 * dim, dim, n - 21, 21, bytes.data());
      load_keys(GetParam(), dim, bytes.data(), 0, n, back.data(), dim);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(back[i], x[i], tolerance(i));
      std::fill(back.begin(), back.end(), 0.0f);
      store_values(GetParam(), dim, x.data() + 21 * dim, dim, n - 21, 21, bytes.data());
      store_values(GetParam(), dim, x.data(), dim, 21, 0, bytes.data());
      load_values(GetParam(), dim, bytes.data(), 0, n, back.data(), dim);
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(back[i], x[i], tolerance(i));
    }
  });
}

TEST_P(SimdAttention, PromptsOfEveryShape) {
  on_every_target([] {
    for (std::size_t dim : {8, 24, 64, 80, 96, 128, 256}) {
      for (std::size_t group : {1, 3, 7}) {
        for (std::size_t rows : {1, 2, 5, 12, 33}) {
          expect_attend(make_params(dim, group), Cache(GetParam(), dim, rows, 23), rows, 0);
        }
      }
    }
    expect_attend(make_params(64, 40), Cache(GetParam(), 64, 3, 24), 3, 0);  // a group beyond one tile
  });
}

TEST_P(SimdAttention, ChunksAtEveryDepth) {
  on_every_target([] {
    for (std::size_t length : {1, 15, 16, 17, 31, 32, 47, 255, 256, 257, 300, 530}) {
      for (std::size_t rows : {1, 7}) {
        if (rows <= length)
          expect_attend(make_params(64, 3), Cache(GetParam(), 64, length, 25), rows, length - rows);
      }
    }
  });
}

TEST_P(SimdAttention, WindowSoftcapAndBidirectional) {
  on_every_target([] {
    const Cache c(GetParam(), 40, 300, 26, 2);
    for (std::size_t window : {1, 2, 16, 33, 270}) {
      auto p = make_params(40, 2);
      p.window = window;
      expect_attend(p, c, 300, 0);
      expect_attend(p, c, 3, 297);
      p.causal = false;
      expect_attend(p, c, 300, 0);
    }
    auto p = make_params(40, 2);
    p.softcap = 2.5f;
    expect_attend(p, c, 20, 280);
    p.causal = false;
    expect_attend(p, c, 300, 0);
    p.softcap = 0;
    expect_attend(p, c, 300, 0);
  });
}

TEST_P(SimdAttention, RelativeBias) {
  on_every_target([] {
    const Cache c(GetParam(), 40, 300, 29, 2);
    const auto bias = normal_floats(2 * 300 - 1, 30, 3);
    auto p = make_params(40, 2);
    p.relative_bias = &bias[299];
    expect_attend(p, c, 300, 0);
    p.causal = false;
    expect_attend(p, c, 300, 0);
  });
}

TEST_P(SimdAttention, LargeScoresDoNotOverflow) {
  on_every_target([] {
    const Cache c(GetParam(), 64, 90, 27, 100);
    auto p = make_params(64, 1);
    const auto q = normal_floats(64, 28, 100);
    std::vector<float> out(64);
    attend(p, c.head(), {q.data(), 64, 64}, 1, 89, 90, {out.data(), 64, 64});
    const auto want = reference(p, c, q.data(), 89, 0, 90);
    for (std::size_t d = 0; d < 64; ++d) EXPECT_NEAR(out[d], want[d], 2e-2);  // scores near 1e4 carry 1e-3
  });
}

TEST_P(SimdAttention, LaterKeysAndOtherRowsChangeNothing) {
  on_every_target([] {
    Cache c(GetParam(), 64, 70, 29);
    const auto p = make_params(64, 3);
    const auto q = normal_floats(70 * 192, 30);
    std::vector<float> before(q.size()), after(q.size());
    attend(p, c.head(), {q.data(), 192, 64}, 70, 0, 70, {before.data(), 192, 64});
    for (std::size_t i = 41 * 64; i < c.k.size(); ++i) c.k[i] = c.v[i] = 9;
    c.store();
    attend(p, c.head(), {q.data(), 192, 64}, 70, 0, 70, {after.data(), 192, 64});
    const auto rows = [](const std::vector<float>& v, std::size_t first, std::size_t count) {
      return std::vector<float>(v.data() + 192 * first, v.data() + 192 * (first + count));
    };
    EXPECT_EQ(rows(before, 0, 41), rows(after, 0, 41));  // to the bit
    EXPECT_NE(rows(before, 41, 1), rows(after, 41, 1));
  });
}

TEST_P(SimdAttention, SplitKeysMergeToTheWhole) {
  on_every_target([] {
    for (std::size_t length : {1, 40, 600}) {
      for (std::size_t group : {1, 3, 36}) {
        for (std::size_t window : {0, 100}) {
          const Cache c(GetParam(), 72, length, 31);
          auto p = make_params(72, group);
          p.window = window;
          const auto q = normal_floats(group * 72, 32);
          for (std::size_t pieces : {1, 2, 5}) {
            const std::size_t stride = attention_part_floats(72, group),
                              step = (length + pieces - 1) / pieces;
            std::vector<float> parts(pieces * stride), out(72);
            for (std::size_t i = 0; i < pieces; ++i) {
              attend_part(p, c.head(), {q.data(), 0, 72}, length - 1, std::min(length, i * step),
                          std::min(length, (i + 1) * step), parts.data() + i * stride);
            }
            for (std::size_t h = 0; h < group; ++h) {
              merge_parts(parts.data() + h * 74, stride, pieces, 72, out.data());
              const auto want = reference(p, c, q.data() + h * 72, length - 1, 0, length);
              for (std::size_t d = 0; d < 72; ++d)
                ASSERT_NEAR(out[d], want[d], 1e-5)
                    << length << " keys in " << pieces << ", head " << h << " of " << group << ", window "
                    << window << ", dim " << d;
            }
          }
        }
      }
    }
  });
}

TEST_P(SimdAttention, NanReachesItsRow) {
  on_every_target([] {
    Cache c(GetParam(), 32, 20, 33);
    const auto p = make_params(32, 2);
    auto q = normal_floats(2 * 64, 34);
    q[64 + 5] = std::nanf("");  // second row, first head
    std::vector<float> out(q.size());
    attend(p, c.head(), {q.data(), 64, 32}, 2, 18, 20, {out.data(), 64, 32});
    for (std::size_t i = 0; i < q.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i >= 64 && i < 96) << i;
    c.k[3 * 32] = std::nanf("");
    c.store();
    attend(p, c.head(), {q.data(), 64, 32}, 1, 18, 20, {out.data(), 64, 32});
    for (std::size_t i = 0; i < 64; ++i) EXPECT_TRUE(std::isnan(out[i])) << i;
  });
}

}  // namespace
}  // namespace metal_candle::simd
