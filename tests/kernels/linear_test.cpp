// The fused linear op against double-precision arithmetic on the same weights.
#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/compute_pool.h"
#include "kernels/embedding.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/lora_half.h"
#include "kernels/simd/product_rows.h"
#include "kernels/simd/quantize_row.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "support/expect_error.h"
#include "support/quantize.h"

namespace metal_candle {
namespace {

namespace mx = mlx::core;

std::vector<float> random_values(std::size_t n, unsigned seed, float scale = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> out(n);
  for (float& x : out) x = normal(engine);
  return out;
}

// A stored matrix, its exact values and the source that names it.
struct Stored {
  std::vector<std::byte> bytes;
  std::vector<float> values;
  std::size_t n, k;
  DType dtype;

  Stored(DType type, std::size_t rows, std::size_t columns, unsigned seed)
      : n(rows), k(columns), dtype(type) {
    bytes = test::encode(type, random_values(n * k, seed, 0.1f));
    values.resize(n * k);
    simd::dequantize(type, bytes.data(), values.data(), n * k);
  }
  MatrixSource source() const { return {dtype, n, k, bytes, {}, {}, {}}; }
};

// Everything the op does, in double; [rows][out].
struct Reference {
  std::vector<const Stored*> parts;
  const RmsNormWeight* norm = nullptr;
  std::vector<float> bias;
  bool swiglu = false;
  std::vector<float> residual;

  std::vector<double> operator()(const std::vector<float>& x, std::size_t rows) const {
    const std::size_t k = parts[0]->k;
    std::vector<double> out;
    for (std::size_t r = 0; r < rows; ++r) {
      std::vector<double> in(x.begin() + static_cast<std::ptrdiff_t>(r * k),
                             x.begin() + static_cast<std::ptrdiff_t>((r + 1) * k));
      if (norm) {
        double sum = 0;
        for (double v : in) sum += v * v;
        for (std::size_t i = 0; i < k; ++i)
          in[i] *= norm->weight[i] / std::sqrt(sum / static_cast<double>(k) + norm->eps);
      }
      std::vector<double> y;
      for (const Stored* part : parts)
        for (std::size_t j = 0; j < part->n; ++j) {
          double dot = bias.empty() ? 0 : bias[y.size()];
          for (std::size_t i = 0; i < k; ++i) dot += in[i] * part->values[j * k + i];
          y.push_back(dot);
        }
      if (swiglu) {
        const std::size_t half = y.size() / 2;
        for (std::size_t j = 0; j < half; ++j) y[j] = y[j] / (1 + std::exp(-y[j])) * y[half + j];
        y.resize(half);
      }
      for (std::size_t j = 0; j < y.size(); ++j)
        out.push_back(y[j] + (residual.empty() ? 0 : residual[r * y.size() + j]));
    }
    return out;
  }
};

// Dense weights: f32 sums of k ~ 100 terms of size 0.1. Quantized: x is rounded to 1/254 of its block's
// largest value (about 3), so each of k products is off by at most 0.006 x 0.1, at random signs.
double tolerance(DType type) { return is_quantized(type) ? 0.08 : 2e-4; }

class LinearOpTest : public testing::TestWithParam<std::tuple<DType, unsigned>> {
 protected:
  void SetUp() override { set_compute_threads(std::get<1>(GetParam())); }
  void TearDown() override { set_compute_threads(0); }

  void expect_equal(const Reference& reference, const LinearSpec& spec, std::size_t rows) {
    const std::size_t k = spec.weight->in_features();
    const std::vector<float> x = random_values(rows * k, 3);
    Reference with = reference;
    std::optional<mx::array> residual;
    const auto out = static_cast<int>(spec.weight->out_features() / (spec.swiglu ? 2 : 1));
    if (!reference.residual.empty()) {
      with.residual = random_values(rows * static_cast<std::size_t>(out), 4);
      residual = mx::array(with.residual.begin(), {static_cast<int>(rows), out});
    }
    const mx::array input(x.begin(), {static_cast<int>(rows), static_cast<int>(k)});
    mx::array y = linear(input, std::make_shared<const LinearSpec>(spec), residual, mx::Device::cpu);
    mx::eval(y);
    const std::vector<double> expected = with(x, rows);
    ASSERT_EQ(y.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(y.data<float>()[i], expected[i],
                  tolerance(std::get<0>(GetParam())) * (1 + std::abs(expected[i])))
          << "rows " << rows << " at " << i;
  }
};

constexpr std::size_t kRowCounts[] = {1, 2, 5, 64, 70, 131, 600};

TEST_P(LinearOpTest, StackedMatricesWithNormAndBias) {
  const DType type = std::get<0>(GetParam());
  const Stored q(type, 70, 96, 10), k(type, 33, 96, 11),
      v(DType::f32, 33, 96, 12);  // mixed formats, odd sizes
  const std::vector<MatrixSource> sources{q.source(), k.source(), v.source()};
  WeightArena arena(PackedLinear::packed_bytes(sources));
  LinearSpec spec;
  spec.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
  spec.norm = std::make_shared<const RmsNormWeight>(RmsNormWeight{random_values(96, 5), 1e-5f});
  spec.bias = random_values(136, 6);
  for (std::size_t rows : kRowCounts)
    expect_equal({{&q, &k, &v}, spec.norm.get(), spec.bias, false, {}}, spec, rows);
}

TEST_P(LinearOpTest, SwigluAndResidual) {
  const DType type = std::get<0>(GetParam());
  const Stored gate(type, 100, 64, 20), up(type, 100, 64, 21), down(type, 64, 128, 22);
  const std::vector<MatrixSource> pair{gate.source(), up.source()}, single{down.source()};
  WeightArena arena(PackedLinear::packed_bytes(pair) + PackedLinear::packed_bytes(single));
  LinearSpec gated, plain;
  gated.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(pair, arena));
  gated.swiglu = true;
  gated.bias = random_values(200, 7);
  plain.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(single, arena));
  for (std::size_t rows : kRowCounts) {
    expect_equal({{&gate, &up}, nullptr, gated.bias, true, {}}, gated, rows);
    expect_equal({{&down}, nullptr, {}, false, {0}}, plain, rows);
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, LinearOpTest,
                         testing::Combine(testing::Values(DType::f32, DType::f16, DType::bf16, DType::q8_0,
                                                          DType::q4_1, DType::q4_0),
                                          testing::Values(1u, 3u)),
                         [](const auto& info) {
                           return std::string(name(std::get<0>(info.param))) + "_threads" +
                                  std::to_string(std::get<1>(info.param));
                         });

// Two int8 rows leave an error of 1/127 of a rounding step: hundreds of times below one row's.
TEST(LinearOp, RefinedActivationsAreNearlyExact) {
  const Stored q(DType::q4_1, 70, 96, 30), v(DType::q8_0, 33, 96, 31), dense(DType::f32, 40, 96, 32);
  const std::vector<MatrixSource> sources{q.source(), v.source(), dense.source()};
  WeightArena arena(PackedLinear::packed_bytes(sources));
  LinearSpec spec;
  spec.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
  spec.refined = 0b111;  // the dense segment is exact as it is
  for (std::size_t rows : kRowCounts) {
    const std::vector<float> x = random_values(rows * 96, 3);
    mx::array y = linear(mx::array(x.begin(), {static_cast<int>(rows), 96}),
                         std::make_shared<const LinearSpec>(spec), std::nullopt, mx::Device::cpu);
    mx::eval(y);
    const std::vector<double> expected = Reference{{&q, &v, &dense}, nullptr, {}, false, {}}(x, rows);
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(y.data<float>()[i], expected[i], 5e-4) << "rows " << rows << " at " << i;
  }
}

TEST(LinearOp, OnlyTheMarkedSegmentsAreRefined) {
  const Stored q(DType::q4_1, 70, 96, 30), v(DType::q8_0, 33, 96, 31);
  const std::vector<MatrixSource> sources{q.source(), v.source()};
  WeightArena arena(PackedLinear::packed_bytes(sources));
  const auto weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
  const auto product = [&](std::uint32_t refined, std::size_t rows) {
    LinearSpec spec;
    spec.weight = weight;
    spec.refined = refined;
    const std::vector<float> x = random_values(rows * 96, 3);
    mx::array y = linear(mx::array(x.begin(), {static_cast<int>(rows), 96}),
                         std::make_shared<const LinearSpec>(spec), std::nullopt, mx::Device::cpu);
    mx::eval(y);
    return std::vector<float>(y.data<float>(), y.data<float>() + y.size());
  };
  for (std::size_t rows : kRowCounts) {
    const std::vector<float> none = product(0, rows), all = product(0b11, rows), second = product(0b10, rows);
    for (std::size_t i = 0; i < none.size(); ++i)
      ASSERT_EQ(second[i], i % 103 < 70 ? none[i] : all[i]) << "rows " << rows << " at " << i;
  }
}

TEST(RunLinear, OnlyRowsAfterTheExactOnesMayRound) {
  const Stored rounded(DType::f16, 70, 96, 30), exact(DType::f32, 33, 96, 31);
  const std::vector<MatrixSource> sources{rounded.source(), exact.source()};
  WeightArena arena(PackedLinear::packed_bytes(sources));
  LinearSpec spec;
  spec.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
  constexpr std::size_t kRows = 130, kOut = 103;
  const std::vector<float> x = random_values(kRows * 96, 3);
  const auto product = [&](std::size_t exact_rows) {
    std::vector<float> y(kRows * kOut);
    run_linear({spec, x.data(), nullptr, y.data(), kRows, exact_rows});
    return y;
  };
  const std::vector<float> all = product(kRows), none = product(0);
  for (std::size_t exact_rows : {1, 95, 96, 97, 129}) {
    const std::vector<float> mixed = product(exact_rows);
    for (std::size_t i = 0; i < mixed.size(); ++i)
      ASSERT_EQ(mixed[i], i / kOut < exact_rows ? all[i] : none[i])
          << "exact rows " << exact_rows << " at " << i;
  }
  for (std::size_t i = 0; i < all.size();
       ++i)  // 2^-9 of two operands, 96 products of about 0.1 at random signs
    ASSERT_NEAR(all[i], none[i], i % kOut < 70 ? 0.02 : 0.0) << "at " << i;
}

TEST(RunLinear, RowsHandedOnQuantizedGiveTheBitsOfRowsHandedOnAsFloats) {
  constexpr std::size_t kHidden = 64, kWide = 160;
  const Stored gate(DType::q4_1, kWide, kHidden, 40), up(DType::q8_0, kWide, kHidden, 41),
      down(DType::q4_0, kHidden, kWide, 42), dense(DType::f16, kHidden, kWide, 43);
  const std::vector<MatrixSource> pair{gate.source(), up.source()}, single{down.source()},
      floats{dense.source()};
  WeightArena arena(PackedLinear::packed_bytes(pair) + PackedLinear::packed_bytes(single) +
                    PackedLinear::packed_bytes(floats));
  LinearSpec gated, plain, other;
  gated.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(pair, arena));
  gated.swiglu = true;
  plain.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(single, arena));
  other.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(floats, arena));
  EXPECT_TRUE(takes_quantized(plain));
  EXPECT_FALSE(takes_quantized(other));
  constexpr std::size_t kRank = 3;
  const std::vector<float> a = random_values(kRank * kWide, 44);
  const std::vector<float> b = random_values(lora_b_elements(kRank, kHidden), 45);
  LoraDelta delta;
  delta.n = kHidden;
  delta.k = kWide;
  delta.rank = kRank;
  delta.a = reinterpret_cast<const std::byte*>(a.data());
  delta.b = reinterpret_cast<const std::byte*>(b.data());
  for (std::size_t rows : kRowCounts) {
    const std::vector<float> x = random_values(rows * kHidden, 3);
    std::vector<float> between(rows * kWide), expected = x, y = x;
    run_linear({gated, x.data(), nullptr, between.data(), rows, rows});
    run_linear({plain, between.data(), expected.data(), expected.data(), rows, rows});
    std::vector<std::byte> handed(rows * quantized_row_bytes(kWide));
    run_linear({gated, x.data(), nullptr, nullptr, rows, rows, nullptr, nullptr, handed.data()});
    run_linear({plain, nullptr, y.data(), y.data(), rows, rows, nullptr, handed.data(), nullptr});
    EXPECT_EQ(y, expected) << "rows " << rows;

    // An adapter reads the floats, which are handed on beside the blocks.
    std::vector<float> floats_too(between.size());
    std::vector<std::byte> blocks(handed.size());
    run_linear({gated, x.data(), nullptr, floats_too.data(), rows, rows, nullptr, nullptr, blocks.data()});
    EXPECT_EQ(floats_too, between);
    EXPECT_EQ(blocks, handed);
    const LoraCall lora{{{.rows = rows, .delta = &delta}}};
    run_linear({plain, between.data(), nullptr, expected.data(), rows, rows, &lora});
    run_linear({plain, between.data(), nullptr, y.data(), rows, rows, &lora, blocks.data()});
    EXPECT_EQ(y, expected) << "rows " << rows;
  }
}

// x as int8 weights see it.
std::vector<float> as_quantized(const std::vector<float>& x, std::size_t k) {
  std::vector<float> out(x.size());
  std::vector<std::byte> row(quantized_row_bytes(k));
  for (std::size_t i = 0; i < x.size(); i += k) {
    simd::quantize_row(&x[i], k, row.data());
    simd::quantization_residual(&x[i], k, row.data(), &out[i]);
    for (std::size_t j = i; j < i + k; ++j) out[j] = x[j] - out[j];
  }
  return out;
}

// Random matrices; those of A times `factor`.
struct Bf16Adapter {
  std::vector<std::uint16_t> a, b;
  LoraDelta delta;

  Bf16Adapter(std::size_t rank, std::size_t k, std::size_t n, float factor = 1)
      : a(rank * k), b(lora_b_elements(rank, n)) {
    std::vector<float> values = random_values(a.size(), 44);
    for (float& value : values) value *= factor;
    simd::f32_to_bf16(values.data(), a.size(), a.data());
    simd::f32_to_bf16(random_values(b.size(), 45).data(), b.size(), b.data());
    delta.type = DType::bf16;
    delta.n = n;
    delta.k = k;
    delta.rank = rank;
    delta.a = reinterpret_cast<const std::byte*>(a.data());
    delta.b = reinterpret_cast<const std::byte*>(b.data());
  }
};

// Rows of long prompts may multiply adapters in 16 bits, those of int8 weights as they are quantized: a row
// is the same alone, and near what floats give for what it sees.
TEST(LinearOp, AdaptersOfLongPromptsRowByRow) {
  constexpr std::size_t kRank = 13, kIn = 352, kOut = 70, kRows = 61, kExact = 2;
  const Bf16Adapter adapter(kRank, kIn, kOut);
  const std::vector<float> x = random_values(kRows * kIn, 3);
  for (DType type : {DType::q8_0, DType::f16, DType::f32}) {
    const Stored w(type, kOut, kIn, 1);
    const std::vector<MatrixSource> sources{w.source()};
    WeightArena arena(PackedLinear::packed_bytes(sources));
    LinearSpec spec;
    spec.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
    const LoraCall lora{{{.rows = kRows, .delta = &adapter.delta}}},
        one{{{.rows = 1, .delta = &adapter.delta}}};
    const LoraCall first{{{.rows = kExact, .delta = &adapter.delta}}};
    std::vector<float> together(kRows * kOut), exact(kRows * kOut), alone(kOut);
    run_linear({spec, x.data(), nullptr, together.data(), kRows, kExact, &lora});
    const bool quantized = type == DType::q8_0 && simd::lora_half() != nullptr;
    EXPECT_EQ(adapters_take_quantized(spec, lora), quantized);
    const std::vector<float> seen = quantized ? as_quantized(x, kIn) : x;
    run_linear({spec, seen.data(), nullptr, exact.data(), kRows, kRows, &lora});
    run_linear({spec, x.data(), nullptr, exact.data(), kExact, kExact, &first});
    if (quantized) {  // then no float is read
      std::vector<std::byte> blocks(kRows * quantized_row_bytes(kIn));
      for (std::size_t r = 0; r < kRows; ++r)
        simd::quantize_row(&x[r * kIn], kIn, &blocks[r * quantized_row_bytes(kIn)]);
      std::vector<float> of_floats(kRows * kOut), of_blocks(kRows * kOut);
      run_linear({spec, x.data(), nullptr, of_floats.data(), kRows, 0, &lora});
      run_linear({spec, nullptr, nullptr, of_blocks.data(), kRows, 0, &lora, blocks.data()});
      EXPECT_EQ(of_blocks, of_floats);
    }
    for (std::size_t r = 0; r < kRows; ++r) {
      run_linear({spec, &x[r * kIn], nullptr, alone.data(), 1, r < kExact ? 1u : 0u, &one});
      for (std::size_t j = 0; j < kOut; ++j) {
        ASSERT_EQ(alone[j], together[r * kOut + j]) << name(type) << " row " << r;
        const float change = exact[r * kOut + j];
        // 16-bit operands move a product by 2^-8 at most (both bf16: 2^-7); sums here have order 100.
        const float moved = simd::half_weight_type() == DType::bf16 ? 0x1p-7f : 0x1p-8f;
        const float allowed = r < kExact || type == DType::f32 ? 0 : 100 * moved;
        ASSERT_NEAR(together[r * kOut + j], change, allowed) << name(type) << " row " << r;
      }
    }
  }
}

// x·Aᵀ beyond float16's range is summed again in f32.
TEST(LinearOp, AdaptersOfLongPromptsBeyondFloat16) {
  constexpr std::size_t kRank = 3, kIn = 352, kOut = 40, kRows = 9;
  const Bf16Adapter adapter(kRank, kIn, kOut, 1e5f);
  const std::vector<float> x = random_values(kRows * kIn, 3);
  for (DType type : {DType::q8_0, DType::f16}) {
    const Stored w(type, kOut, kIn, 1);
    const std::vector<MatrixSource> sources{w.source()};
    WeightArena arena(PackedLinear::packed_bytes(sources));
    LinearSpec spec;
    spec.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
    const LoraCall lora{{{.rows = kRows, .delta = &adapter.delta}}};
    const bool quantized = type == DType::q8_0 && simd::lora_half() != nullptr;
    const std::vector<float> seen = quantized ? as_quantized(x, kIn) : x;
    std::vector<float> half(kRows * kOut), exact(kRows * kOut);
    run_linear({spec, x.data(), nullptr, half.data(), kRows, 0, &lora});
    run_linear({spec, seen.data(), nullptr, exact.data(), kRows, kRows, &lora});
    float largest = 0;
    for (const float value : exact) largest = std::max(largest, std::fabs(value));
    ASSERT_GT(largest, 65504.0f);
    // x, t and B are rounded to 2^-11 (bf16: 2^-8) of themselves each, where they are rounded.
    const bool bf16 = simd::half_weight_type() == DType::bf16;
    for (std::size_t i = 0; i < half.size(); ++i)
      ASSERT_NEAR(half[i], exact[i], largest * (bf16 ? 0x1p-6f : 0x1p-9f)) << name(type) << " at " << i;
  }
}

TEST(LinearOp, ChecksShapesWhenTheGraphIsBuilt) {
  const Stored w(DType::f32, 40, 32, 1), other(DType::f32, 40, 64, 2);
  const std::vector<MatrixSource> sources{w.source()}, mismatched{w.source(), other.source()};
  WeightArena arena(PackedLinear::packed_bytes(sources) * 4);
  EXPECT_MC_ERROR(PackedLinear::pack(mismatched, arena), ErrorCode::invalid_argument, "share k");
  LinearSpec spec;
  spec.weight = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, arena));
  const auto shared = std::make_shared<const LinearSpec>(spec);
  EXPECT_MC_ERROR(linear(mx::zeros({2, 33}), shared, std::nullopt, mx::Device::cpu),
                  ErrorCode::invalid_argument, "[rows, 32]");
  EXPECT_MC_ERROR(linear(mx::zeros({2, 32}), shared, mx::zeros({3, 40}), mx::Device::cpu),
                  ErrorCode::invalid_argument, "residual");
  spec.bias.resize(3);
  EXPECT_MC_ERROR(
      linear(mx::zeros({2, 32}), std::make_shared<const LinearSpec>(spec), std::nullopt, mx::Device::cpu),
      ErrorCode::invalid_argument, "bias");
}

TEST(PackedLinearTest, RowsComeBackAndMayBePermuted) {
  const Stored w(DType::q8_0, 70, 64, 9);
  MatrixSource source = w.source();
  source.row = [](std::size_t i) { return 69 - i; };
  WeightArena arena(PackedLinear::packed_bytes({&source, 1}));
  const PackedLinear packed = PackedLinear::pack({&source, 1}, arena);
  EXPECT_EQ(packed.bytes(), arena.used());
  std::vector<float> row(64);
  for (std::size_t i : {0u, 31u, 32u, 69u}) {
    packed.unpack_row(i, row.data());
    EXPECT_TRUE(
        std::equal(row.begin(), row.end(), w.values.begin() + static_cast<std::ptrdiff_t>((69 - i) * 64)));
  }
  const std::vector<std::int32_t> ids{3, 0, 69};
  const mx::array embedded = embed(packed, ids);
  packed.unpack_row(69, row.data());
  EXPECT_TRUE(std::equal(row.begin(), row.end(), embedded.data<float>() + 2 * 64));
  const std::vector<std::int32_t> bad{70};
  EXPECT_MC_ERROR(embed(packed, bad), ErrorCode::invalid_argument, "70");
}

TEST(WeightArenaTest, AlignsAndRefusesOverruns) {
  WeightArena arena(1000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.allocate(1)) % 64, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(arena.allocate(100)) % 64, 0u);
  EXPECT_EQ(arena.used(), 64u + 128u);
  EXPECT_MC_ERROR(arena.allocate(5000), ErrorCode::internal, "arena");
  EXPECT_MC_ERROR(WeightArena(std::size_t{1} << 60), ErrorCode::out_of_memory, "weights");
}

}  // namespace
}  // namespace metal_candle
