// Sums of products B·A against dense matrices in double precision; properties of the mixes.
#include "adapters/low_rank.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "adapters/adapter_impl.h"
#include "metal_candle/adapter.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

const std::string kGolden = std::string(MC_GOLDEN_DIR) + "/adapters/";

LoraFactors random_factors(std::size_t rank, std::size_t in, std::size_t out, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  LoraFactors f{rank, in, out, std::vector<float>(rank * in), std::vector<float>(rank * out)};
  for (float& x : f.a) x = normal(random);
  for (float& x : f.b) x = normal(random);
  return f;
}

std::vector<double> dense(const LoraFactors& f, double weight = 1) {
  std::vector<double> out(f.out * f.in, 0.0);
  for (std::size_t r = 0; r < f.rank; ++r)
    for (std::size_t j = 0; j < f.out; ++j)
      for (std::size_t i = 0; i < f.in; ++i)
        out[j * f.in + i] += weight * static_cast<double>(f.b[r * f.out + j]) * f.a[r * f.in + i];
  return out;
}

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

TEST(LowRank, NormIsTheDenseOne) {
  const LoraFactors a = random_factors(3, 17, 9, 1), b = random_factors(5, 17, 9, 2);
  LowRank sum;
  sum.add(a, 0.5);
  sum.add(b, -2);
  std::vector<double> want = dense(a, 0.5);
  const std::vector<double> second = dense(b, -2);
  for (std::size_t i = 0; i < want.size(); ++i) want[i] += second[i];
  EXPECT_NEAR(sum.norm(), norm(want), 1e-12 * norm(want));
  EXPECT_EQ(sum.rank(), 8u);
  EXPECT_MC_ERROR(sum.add(random_factors(1, 16, 9, 3), 1), ErrorCode::invalid_argument, "17 inputs");
}

TEST(LowRank, NearestOfFullRankIsTheSumItself) {
  for (const std::size_t rank : {8, 9, 12}) {  // 9 rows: rank 8 of the sum; more is padded with zeros
    const LoraFactors a = random_factors(3, 17, 9, 1), b = random_factors(5, 17, 9, 2);
    LowRank sum;
    sum.add(a, 0.5);
    sum.add(b, -2);
    std::vector<double> want = dense(a, 0.5);
    const std::vector<double> second = dense(b, -2), got = dense(sum.nearest(rank));
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i] + second[i], 1e-5);
  }
}

// Eckart-Young: what is dropped is orthogonal to what stays, and the rank-1 pieces come in order of their
// size.
TEST(LowRank, NearestDropsTheSmallestPieces) {
  LowRank sum;
  sum.add(random_factors(4, 20, 30, 4), 1);
  sum.add(random_factors(4, 20, 30, 5), 0.25);
  double kept_before = 0;
  double piece_before = 1e300;
  for (std::size_t rank = 1; rank <= 8; ++rank) {
    const LoraFactors near = sum.nearest(rank);
    const double kept = norm(dense(near));
    LowRank rest = sum;
    rest.add(near, -1);
    EXPECT_NEAR(kept * kept + rest.norm() * rest.norm(), sum.norm() * sum.norm(),
                1e-4 * sum.norm() * sum.norm());
    const double piece = kept * kept - kept_before * kept_before;
    EXPECT_GT(piece, 0);
    EXPECT_LE(piece, piece_before * (1 + 1e-6));
    kept_before = kept;
    piece_before = piece;
  }
}

TEST(LowRank, DependentAndEmptyPartsAreNoTrouble) {
  const LoraFactors a = random_factors(3, 11, 7, 6);
  LoraFactors zero = a;
  std::ranges::fill(zero.b, 0.0f);
  LowRank sum;
  sum.add(a, 1);
  sum.add(a, 1);
  sum.add(zero, 1);
  const std::vector<double> want = dense(a, 2), got = dense(sum.nearest(3));
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5);
}

TEST(CompareAdapters, SaysHowFarTheyAreApart) {
  const auto lora = Adapter::load(kGolden + "lora"), mlx = Adapter::load(kGolden + "lora-mlx");
  for (const AdapterDifference& d : compare_adapters(*lora, *mlx)) {
    EXPECT_GT(d.first, 0.1);
    EXPECT_DOUBLE_EQ(d.first, d.second);
    EXPECT_LT(d.difference, 1e-6 * d.first) << d.module;
  }
  const auto other = Adapter::load(kGolden + "other");
  const auto apart = compare_adapters(*lora, *other);
  EXPECT_EQ(apart.size(), 14u);
  for (const AdapterDifference& d : apart) {
    if (d.module.ends_with("v_proj")) {
      EXPECT_EQ(d.second, 0);
    }
    EXPECT_LE(d.difference, d.first + d.second);
    EXPECT_GE(d.difference, std::fabs(d.first - d.second) - 1e-9);
  }
}

TEST(MixAdapters, DareKeepsTheExpectationAndItsSeed) {
  const auto lora = Adapter::load(kGolden + "lora");
  const auto mix = [&](MixMethod method, double density, std::uint64_t seed) {
    return mix_adapters({{lora, 1}}, {method, 0, density, seed})->info().hash;
  };
  EXPECT_EQ(mix(MixMethod::dare_ties, 0.5, 1), mix(MixMethod::dare_ties, 0.5, 1));
  EXPECT_NE(mix(MixMethod::dare_ties, 0.5, 1), mix(MixMethod::dare_ties, 0.5, 2));
  EXPECT_EQ(mix(MixMethod::dare_ties, 1, 1), mix(MixMethod::ties, 1, 0));
  // Each factor keeps its expectation, so over many seeds the mean of a value drawn with density 1/2 nears
  // it: its deviation after 400 draws is 1/20 of it, and one of 5 such deviations has odds of one in a
  // million.
  const LoraModule& whole = lora->impl().file.weights->modules()[0];
  const float wanted = LoraFactors::of(whole).a[0] * std::sqrt(whole.delta.scale);
  double sum = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed)
    sum += LoraFactors::of(mix_adapters({{lora, 1}}, {MixMethod::dare_ties, 0, 0.5, seed})
                               ->impl()
                               .file.weights->modules()[0])
               .a[0];
  EXPECT_NEAR(sum / 400, wanted, 0.25 * std::fabs(wanted));
}

TEST(MixAdapters, RefusesWhatItCannotMix) {
  const auto load = [](const char* name) { return Adapter::load(kGolden + name); };
  EXPECT_MC_ERROR(mix_adapters({{load("lora"), 1}, {load("rslora"), 1}}, {MixMethod::linear}),
                  ErrorCode::invalid_argument, "ranks 4 and 5", "svd");
  EXPECT_MC_ERROR(mix_adapters({{load("dora"), 1}}), ErrorCode::unsupported, "DoRA");
  EXPECT_MC_ERROR(mix_adapters({{load("lora"), 1}, {load("patterns"), 1}}), ErrorCode::invalid_argument,
                  "different models");
  EXPECT_MC_ERROR(mix_adapters({{nullptr, 1}}), ErrorCode::invalid_argument, "null");
  EXPECT_MC_ERROR(mix_adapters({{load("lora"), std::nanf("")}}), ErrorCode::invalid_argument, "lora",
                  "scale is not finite");
  EXPECT_MC_ERROR(mix_adapters({}), ErrorCode::invalid_argument, "nothing to mix");
  EXPECT_MC_ERROR(mix_adapters({{load("lora"), 1}}, {MixMethod::ties, 0, 0.0}), ErrorCode::invalid_argument,
                  "density");
  EXPECT_MC_ERROR(mix_adapters({{load("lora-gguf/adapter.gguf"), 1}}), ErrorCode::unsupported, "convert");
}

}  // namespace
}  // namespace metal_candle
