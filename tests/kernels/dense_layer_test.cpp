// y = xWᵀ + b in each kind of product against double precision, on every SIMD target; rows that do not depend
// on their neighbours; teams that agree.
#include "kernels/dense_layer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "kernels/compute_pool.h"
#include "simd_attention_targets.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

using simd::normal_floats;

struct Problem {
  std::size_t rows, k;
  std::vector<std::size_t> parts;  // outputs of the stacked matrices
  std::vector<std::vector<float>> weights;
  std::vector<float> x, bias;

  Problem(std::size_t rows, std::size_t k, std::vector<std::size_t> parts)
      : rows(rows), k(k), parts(std::move(parts)) {
    unsigned seed = 1;
    for (const std::size_t n : this->parts) weights.push_back(normal_floats(n * k, ++seed));
    x = normal_floats(rows * k, 50);
    bias = normal_floats(outputs(), 51);
  }
  std::size_t outputs() const {
    std::size_t n = 0;
    for (const std::size_t part : parts) n += part;
    return n;
  }
  std::vector<MatrixSource> sources() const {
    std::vector<MatrixSource> out;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      out.emplace_back();
      out.back().n = parts[i];
      out.back().k = k;
      out.back().data = std::as_bytes(std::span(weights[i]));
    }
    return out;
  }
  /// y in double, and the sum of |x w|, in units of which products err.
  std::pair<double, double> expected(std::size_t row, std::size_t output) const {
    double y = bias[output], size = std::abs(y);
    std::size_t part = 0;
    while (output >= parts[part]) output -= parts[part++];
    for (std::size_t i = 0; i < k; ++i) {
      const double product = static_cast<double>(x[row * k + i]) * weights[part][output * k + i];
      y += product;
      size += std::abs(product);
    }
    return {y, size};
  }
};

struct Layer {
  std::unique_ptr<WeightArena> arena;
  DenseLayer layer;
  Layer(const Problem& p, Products products) {
    const auto sources = p.sources();
    arena = std::make_unique<WeightArena>(DenseLayer::packed_bytes(sources, products));
    layer = DenseLayer::pack(sources, p.bias, products, *arena);
  }
  std::vector<float> operator()(const Problem& p, std::size_t first, std::size_t count,
                                const Team& team) const {
    std::vector<std::byte> memory(count * simd::product_row_bytes(layer.products(), p.k));
    const ProductRows rows(layer.products(), p.k, memory.data());
    for (std::size_t r = 0; r < count; ++r) rows.store(r, 0, &p.x[(first + r) * p.k], p.k);
    std::vector<float> y(count * p.outputs());
    layer.apply(rows, count, team, [&](const DensePiece& piece) { piece.store(y.data(), p.outputs()); });
    return y;
  }
};

TEST(DenseLayerTest, IsTheProductWithinItsRounding) {
  // Worst case per product: f32 a few ulp of the running sum; bf16 two roundings of 2^-9; int8 1/254 of a
  // block's largest value on either side, of values about a third of it.
  constexpr std::pair<Products, double> kKinds[] = {
      {Products::f32, 1e-6}, {Products::half, 0x1p-8}, {Products::int8, 0.02}};
  for (const auto& [rows, k, parts] :
       {std::tuple{300, 64, std::vector<std::size_t>{32, 32, 32}}, {1, 96, {7}}, {13, 32, {40, 25}}}) {
    const Problem p(static_cast<std::size_t>(rows), static_cast<std::size_t>(k), parts);
    for (const auto& [products, tolerance] : kKinds) {
      simd::on_every_target([&, products = products, tolerance = tolerance] {
        const std::vector<float> y = Layer(p, products)(p, 0, p.rows, Team{});
        for (std::size_t r = 0; r < p.rows; ++r)
          for (std::size_t j = 0; j < p.outputs(); ++j) {
            const auto [expected, size] = p.expected(r, j);
            ASSERT_NEAR(y[r * p.outputs() + j], expected, tolerance * size)
                << "row " << r << ", output " << j;
          }
      });
    }
  }
}

TEST(DenseLayerTest, ARowIsTheSameAloneAndForAnyTeam) {
  const Problem p(290, 64, {48, 16});
  for (const Products products : {Products::f32, Products::half, Products::int8}) {
    const Layer layer(p, products);
    const std::vector<float> all = layer(p, 0, p.rows, Team{});
    for (const std::size_t row : {0u, 7u, 263u, 264u, 289u}) {
      const std::vector<float> alone = layer(p, row, 1, Team{});
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), &all[row * p.outputs()])) << row;
    }
    std::vector<float> parts(all.size());
    for (unsigned member = 0; member < 3; ++member) {
      const std::vector<float> part = layer(p, 0, p.rows, Team{member, 3, &compute_pool()});
      for (std::size_t i = 0; i < all.size(); ++i) parts[i] += part[i];
    }
    EXPECT_EQ(parts, all);
  }
}

TEST(DenseLayerTest, StoresOrAddsToRowsOfAnyStride) {
  const Problem p(29, 64, {64, 40, 32});
  const std::size_t n = p.outputs(), stride = n + 5;
  const std::vector<float> before = normal_floats(p.rows * stride, 60);
  for (const auto& [products, tolerance] : {std::pair{Products::f32, 1e-6}, {Products::half, 0x1p-8}}) {
    simd::on_every_target([&, products = products, tolerance = tolerance] {
      const Layer layer(p, products);
      std::vector<std::byte> memory(p.rows * simd::product_row_bytes(products, p.k));
      const ProductRows rows(products, p.k, memory.data());
      for (std::size_t r = 0; r < p.rows; ++r) rows.store(r, 0, &p.x[r * p.k], p.k);
      std::vector<float> stored = before, added = before;
      for (unsigned member = 0; member < 3; ++member) {
        const Team team{member, 3, &compute_pool()};
        layer.layer.store(rows, p.rows, team, stored.data(), stride);
        layer.layer.add(rows, p.rows, team, added.data(), stride);
      }
      for (std::size_t r = 0; r < p.rows; ++r)
        for (std::size_t j = 0; j < stride; ++j) {
          const std::size_t at = r * stride + j;
          const auto [y, size] = j < n ? p.expected(r, j) : std::pair{0.0, 0.0};
          const double old = before[at];
          ASSERT_NEAR(stored[at], j < n ? y : old, tolerance * size) << "row " << r << ", output " << j;
          ASSERT_NEAR(added[at], old + y, tolerance * (size + std::abs(old)));
        }
    });
  }
}

TEST(DenseLayerTest, BadShapesAreErrors) {
  const Problem p(1, 40, {8});
  EXPECT_MC_ERROR(Layer(p, Products::int8), ErrorCode::unsupported, "multiples of 32", "40");
  Problem short_bias(1, 32, {8});
  short_bias.bias.pop_back();
  EXPECT_MC_ERROR(Layer(short_bias, Products::f32), ErrorCode::invalid_argument, "bias");
}

TEST(DenseLayerTest, AWeightTooLargeForSumsInFloat16IsAnErrorWhereSumsAre) {
  Problem p(2, 64, {40});
  p.weights[0][70] = -2 * simd::kLargestHalfWeight;
  simd::on_every_target([&] {
    if (simd::half_weight_type() == DType::f16)
      EXPECT_MC_ERROR(Layer(p, Products::half), ErrorCode::unsupported, "at most 1024", "use f32");
    else
      EXPECT_NO_THROW(Layer(p, Products::half));
    EXPECT_NO_THROW(Layer(p, Products::f32));
  });
}

}  // namespace
}  // namespace metal_candle
