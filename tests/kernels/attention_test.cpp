// The ragged attention op against plain double-precision attention over the same sequences.
#include "kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/compute_pool.h"
#include "kernels/simd/rope.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

namespace mx = mlx::core;

constexpr std::size_t kHeads = 6, kKvHeads = 2, kDim = 32, kWidth = (kHeads + 2 * kKvHeads) * kDim;

struct Cache {
  explicit Cache(std::size_t capacity) {
    view.head_bytes = simd::kv_bytes(simd::KvType::f32, kDim, capacity);
    view.layer_bytes = 2 * kKvHeads * view.head_bytes;
    bytes.resize(view.layer_bytes);
    view.type = simd::KvType::f32;
    view.data = bytes.data();
  }
  std::vector<std::byte> bytes;
  KvView view;
};

std::vector<float> random_rows(std::size_t rows, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(rows * kWidth);
  for (float& x : out) x = normal(engine);
  return out;
}

// Rotates (and with `norm` first normalises) one head as the definitions say.
std::vector<double> rotated(const float* head, const std::vector<float>& norm, double eps,
                            std::size_t position) {
  std::vector<double> x(head, head + kDim);
  if (!norm.empty()) {
    double sum = 0;
    for (double v : x) sum += v * v;
    for (std::size_t i = 0; i < kDim; ++i) x[i] *= norm[i] / std::sqrt(sum / kDim + eps);
  }
  std::vector<double> out(kDim);
  for (std::size_t i = 0; i < kDim / 2; ++i) {
    const double angle =
        static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / kDim);
    out[i] = x[i] * std::cos(angle) - x[i + kDim / 2] * std::sin(angle);
    out[i + kDim / 2] = x[i + kDim / 2] * std::cos(angle) + x[i] * std::sin(angle);
  }
  return out;
}

// Attention of every row of one whole sequence.
std::vector<double> reference(const std::vector<float>& qkv, const AttentionSpec& spec) {
  const std::size_t rows = qkv.size() / kWidth;
  std::vector<double> out(rows * kHeads * kDim, 0);
  for (std::size_t h = 0; h < kHeads; ++h) {
    const std::size_t kv = h / (kHeads / kKvHeads);
    std::vector<std::vector<double>> keys;
    for (std::size_t r = 0; r < rows; ++r) {
      keys.push_back(rotated(&qkv[r * kWidth + (kHeads + kv) * kDim], spec.k_norm, spec.norm_eps, r));
      const auto q = rotated(&qkv[r * kWidth + h * kDim], spec.q_norm, spec.norm_eps, r);
      const std::size_t first = spec.window && r + 1 > spec.window ? r + 1 - spec.window : 0;
      std::vector<double> weights;
      double sum = 0;
      for (std::size_t j = first; j <= r; ++j) {
        double score = 0;
        for (std::size_t i = 0; i < kDim; ++i) score += q[i] * keys[j][i];
        weights.push_back(std::exp(score * spec.scale));
        sum += weights.back();
      }
      for (std::size_t j = first; j <= r; ++j)
        for (std::size_t i = 0; i < kDim; ++i)
          out[(r * kHeads + h) * kDim + i] +=
              weights[j - first] / sum * qkv[j * kWidth + (kHeads + kKvHeads + kv) * kDim + i];
    }
  }
  return out;
}

// Rows [begin, end) of each sequence in one call.
struct Piece {
  const std::vector<float>* sequence;
  Cache* cache;
  std::size_t begin, end;
};

std::vector<float> run(const std::vector<Piece>& pieces, const AttentionSpec& spec) {
  std::vector<float> frequencies(kDim / 2);
  for (std::size_t i = 0; i < kDim / 2; ++i)
    frequencies[i] = static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / kDim));
  auto batch = std::make_shared<AttentionBatch>();
  std::vector<float> qkv;
  std::size_t rows = 0;
  for (const Piece& p : pieces) {
    batch->sequences.push_back({p.cache->view, rows, p.end - p.begin, p.begin});
    rows += p.end - p.begin;
    qkv.insert(qkv.end(), p.sequence->begin() + static_cast<std::ptrdiff_t>(p.begin * kWidth),
               p.sequence->begin() + static_cast<std::ptrdiff_t>(p.end * kWidth));
  }
  batch->cos.resize(rows * kDim / 2);
  batch->sin.resize(rows * kDim / 2);
  for (const AttentionSequence& s : batch->sequences)
    for (std::size_t i = 0; i < s.rows; ++i) {
      const std::size_t at = (s.first_row + i) * kDim / 2;
      simd::rope_table(static_cast<std::int64_t>(s.position + i), frequencies.data(), kDim / 2, 1,
                       &batch->cos[at], &batch->sin[at]);
    }
  const mx::array input(qkv.begin(), {static_cast<int>(rows), static_cast<int>(kWidth)});
  mx::array y = attention(input, std::make_shared<const AttentionSpec>(spec), batch, 0, mx::Device::cpu);
  mx::eval(y);
  return {y.data<float>(), y.data<float>() + y.size()};
}

void expect_rows(const std::vector<float>& got, std::size_t at, const std::vector<double>& expected,
                 std::size_t begin, std::size_t end) {
  constexpr std::size_t width = kHeads * kDim;
  for (std::size_t i = 0; i < (end - begin) * width; ++i)
    ASSERT_NEAR(got[at * width + i], expected[begin * width + i], 3e-5)
        << "row " << begin + i / width;  // f32 sums of order 1
}

class AttentionOp : public testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override { set_compute_threads(GetParam()); }
  void TearDown() override { set_compute_threads(0); }
  AttentionSpec spec{.heads = kHeads,
                     .kv_heads = kKvHeads,
                     .head_dim = kDim,
                     .scale = 0.17f,
                     .window = 0,
                     .q_norm = {},
                     .k_norm = {},
                     .norm_eps = 1e-6f};
};

TEST_P(AttentionOp, PromptsChunksAndDecodingRowsInOneBatch) {
  const std::vector<float> a = random_rows(75, 1), b = random_rows(40, 2);
  const auto expect_a = reference(a, spec), expect_b = reference(b, spec);
  Cache cache_a(80), cache_b(48);
  expect_rows(run({{&a, &cache_a, 0, 30}}, spec), 0, expect_a, 0, 30);
  expect_rows(run({{&b, &cache_b, 0, 39}}, spec), 0, expect_b, 0, 39);
  const auto mixed = run({{&b, &cache_b, 39, 40}, {&a, &cache_a, 30, 75}}, spec);
  expect_rows(mixed, 0, expect_b, 39, 40);
  expect_rows(mixed, 1, expect_a, 30, 75);
}

TEST_P(AttentionOp, LongCachesAreSplitOverKeysWithAndWithoutAWindow) {
  const std::vector<float> a = random_rows(1200, 3);
  for (std::size_t window : {0u, 700u, 5u}) {
    spec.window = window;
    const auto expected = reference(a, spec);
    Cache cache(1200);
    run({{&a, &cache, 0, 1199}}, spec);
    expect_rows(run({{&a, &cache, 1199, 1200}}, spec), 0, expected, 1199, 1200);
  }
}

TEST_P(AttentionOp, NormalisesQueriesAndKeysBeforeTheRotation) {
  const std::vector<float> a = random_rows(20, 4);
  spec.q_norm.assign(kDim, 0.7f);
  spec.k_norm.assign(kDim, 1.3f);
  spec.q_norm[3] = -2;
  spec.scale = 1;
  Cache cache(32);
  expect_rows(run({{&a, &cache, 0, 20}}, spec), 0, reference(a, spec), 0, 20);
}

TEST_P(AttentionOp, ChecksShapesWhenTheGraphIsBuilt) {
  const auto shared = std::make_shared<const AttentionSpec>(spec);
  const auto empty = std::make_shared<const AttentionBatch>();
  EXPECT_MC_ERROR(attention(mx::zeros({1, 5}), shared, empty, 0, mx::Device::cpu),
                  ErrorCode::invalid_argument, "qkv");
  EXPECT_MC_ERROR(attention(mx::zeros({1, static_cast<int>(kWidth)}), shared, empty, 0, mx::Device::cpu),
                  ErrorCode::invalid_argument, "every row");
  spec.kv_heads = 4;
  EXPECT_MC_ERROR(
      attention(mx::zeros({1, 5}), std::make_shared<const AttentionSpec>(spec), empty, 0, mx::Device::cpu),
      ErrorCode::invalid_argument, "divide");
}

INSTANTIATE_TEST_SUITE_P(Threads, AttentionOp, testing::Values(1u, 2u, 3u));

}  // namespace
}  // namespace metal_candle
