// The two products of LoRA against sums in double precision, on every target, element type and remainder.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/simd/convert.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/lora.h"
#include "kernels/simd/lora_half.h"
#include "kernels/simd/quantize_row.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

// n products of order 1 summed in f32 by lanes: n roundings of 2^-24 at the very worst.
double tolerance(std::size_t n) { return 6e-8 * static_cast<double>(n + 8); }

struct Matrix {
  DType type;
  std::vector<std::byte> bytes;
  std::vector<float> values;  // exactly what the bytes hold
};

Matrix random_matrix(DType type, std::size_t count, unsigned seed) {
  const auto x = normal_floats(count, seed);
  Matrix m{type, std::vector<std::byte>(count * block_bytes(type)), std::vector<float>(count)};
  auto* words = reinterpret_cast<std::uint16_t*>(m.bytes.data());
  if (type == DType::f32) std::memcpy(m.bytes.data(), x.data(), m.bytes.size());
  if (type == DType::f16) f32_to_f16(x.data(), count, words);
  if (type == DType::bf16) f32_to_bf16(x.data(), count, words);
  dequantize(type, m.bytes.data(), m.values.data(), count);
  return m;
}

constexpr DType kTypes[] = {DType::f32, DType::f16, DType::bf16};

TEST(SimdLora, ShrinkOfEveryRemainder) {
  on_every_target([] {
    for (const DType type : kTypes)
      for (const std::size_t k : {1, 7, 16, 33, 576})
        for (const std::size_t rank : {1, 3, 4, 8, 13})
          for (const std::size_t rows : {1, 2, 4, 7}) {
            const Matrix a = random_matrix(type, rank * k, 1);
            const auto x = normal_floats(rows * (k + 3), 2);
            std::vector<float> out(rows * (rank + 1), -7.0f);
            lora_shrink(type, a.bytes.data(), rank, k, x.data(), k + 3, rows, out.data(), rank + 1);
            for (std::size_t i = 0; i < rows; ++i) {
              for (std::size_t j = 0; j < rank; ++j) {
                double want = 0, size = 0;
                for (std::size_t c = 0; c < k; ++c) {
                  const double product = static_cast<double>(x[i * (k + 3) + c]) * a.values[j * k + c];
                  want += product;
                  size += std::fabs(product);
                }
                ASSERT_NEAR(out[i * (rank + 1) + j], want, tolerance(k) * size)
                    << name(type) << " k " << k << " rank " << rank << " rows " << rows;
              }
              ASSERT_EQ(out[i * (rank + 1) + rank], -7.0f) << "wrote beyond the rank";
            }
          }
  });
}

TEST(SimdLora, ExpandOfEveryRemainder) {
  on_every_target([] {
    for (const DType type : kTypes)
      for (const std::size_t columns : {1, 5, 16, 31, 64})
        for (const std::size_t rank : {1, 4, 9})
          for (const std::size_t rows : {1, 3, 4, 6}) {
            const std::size_t n = columns + 2;
            const Matrix b = random_matrix(type, rank * n, 3);
            const auto t = normal_floats(rows * rank, 4), before = normal_floats(rows * n, 5);
            auto y = before;
            lora_expand(type, b.bytes.data(), n, rank, t.data(), rank, rows, columns, y.data(), n);
            for (std::size_t i = 0; i < rows; ++i)
              for (std::size_t c = 0; c < n; ++c) {
                double want = before[i * n + c], size = std::fabs(want);
                for (std::size_t j = 0; c < columns && j < rank; ++j) {
                  want += static_cast<double>(t[i * rank + j]) * b.values[j * n + c];
                  size += std::fabs(static_cast<double>(t[i * rank + j]) * b.values[j * n + c]);
                }
                ASSERT_NEAR(y[i * n + c], want, c < columns ? tolerance(rank) * size : 0.0)
                    << name(type) << " columns " << columns << " rank " << rank << " rows " << rows;
              }
          }
  });
}

TEST(SimdLora, ARowsResultDoesNotDependOnTheOthers) {
  on_every_target([] {
    const std::size_t k = 100, rank = 11, rows = 6, n = 50;
    const Matrix a = random_matrix(DType::bf16, rank * k, 6), b = random_matrix(DType::bf16, rank * n, 7);
    const auto x = normal_floats(rows * k, 8);
    std::vector<float> together(rows * rank), y(rows * n);
    lora_shrink(DType::bf16, a.bytes.data(), rank, k, x.data(), k, rows, together.data(), rank);
    lora_expand(DType::bf16, b.bytes.data(), n, rank, together.data(), rank, rows, n, y.data(), n);
    for (std::size_t i = 0; i < rows; ++i) {
      std::vector<float> alone(rank), y_alone(n);
      lora_shrink(DType::bf16, a.bytes.data(), rank, k, x.data() + i * k, k, 1, alone.data(), rank);
      EXPECT_EQ(alone, std::vector<float>(together.begin() + i * rank, together.begin() + (i + 1) * rank));
      lora_expand(DType::bf16, b.bytes.data(), n, rank, alone.data(), rank, 1, n, y_alone.data(), n);
      EXPECT_EQ(y_alone, std::vector<float>(y.begin() + i * n, y.begin() + (i + 1) * n));
    }
  });
}

TEST(SimdLora, ASingleRowGivesTheBitsOfSeveral) {
  on_every_target([] {
    for (const DType type : kTypes)
      for (const std::size_t k : {7, 96, 352})
        for (const std::size_t rank : {1, 3, 8, 13, 24})
          for (const std::size_t columns : {5, 32, 64, 150}) {
            const Matrix a = random_matrix(type, rank * k, 9);
            const Matrix b = random_matrix(type, (columns + 31) / 32 * 32 * rank, 10);
            const auto x = normal_floats(k, 11), before = normal_floats(columns, 12);
            std::vector<float> t(rank), t_alone(rank + 1, -7.0f);
            lora_shrink(type, a.bytes.data(), rank, k, x.data(), k, 1, t.data(), rank);
            lora_shrink_one(type, a.bytes.data(), rank, k, x.data(), t_alone.data(), {b.bytes.data()});
            EXPECT_EQ(t_alone.back(), -7.0f) << "wrote beyond the rank";
            t_alone.pop_back();
            EXPECT_EQ(t_alone, t) << name(type) << " k " << k << " rank " << rank;
            auto y = before, y_alone = before;
            for (std::size_t c = 0; c < columns; c += 32)
              lora_expand(type, &b.bytes[c * rank * block_bytes(type)], 32, rank, t.data(), rank, 1,
                          std::min<std::size_t>(32, columns - c), &y[c], columns);
            lora_expand_tiles(type, b.bytes.data(), rank, t.data(), columns, y_alone.data());
            EXPECT_EQ(y_alone, y) << name(type) << " columns " << columns << " rank " << rank;
          }
  });
}

// ---- 16 bits ---------------------------------------------------------------------------------------

// check(LoraHalf) on every target that has such products.
template <class F>
void on_every_half_target(const F& check) {
  bool any = false;
  on_every_target([&] {
    const LoraHalf* half = lora_half();
    any |= half != nullptr;
    if (half) check(*half);
  });
  if (!any) GTEST_SKIP() << "no products of 16 bits here";
}

std::vector<std::byte> half_rows(const LoraHalf& half, const std::vector<float>& x, std::size_t n) {
  std::vector<std::byte> out(x.size() / n * half_row_bytes(n));
  for (std::size_t i = 0; i < x.size() / n; ++i) half.row(&x[i * n], n, &out[i * half_row_bytes(n)]);
  return out;
}

// Both operands and every product of order 1 move by 2^-11 (bf16: 2^-8) of themselves; sums of up to 128
// float16, whose roundings go either way, by less than that (linear_avx512_fp16.cpp).
double half_tolerance(const LoraHalf& half) { return half.type == DType::f16 ? 0x1p-9 : 0x1.01p-7; }

TEST(SimdLoraHalf, ShrinkOfEveryRemainder) {
  on_every_half_target([](const LoraHalf& half) {
    for (const DType type : {DType::f16, DType::bf16})
      for (const std::size_t k : {1, 31, 32, 33, 576, 4896})
        for (const std::size_t rank : {1, 3, 8, 13})
          for (const std::size_t rows : {1, 5, 6, 13}) {
            const Matrix a = random_matrix(type, rank * k, 1);
            auto x = normal_floats(rows * k, 2);
            for (float& v : x) v *= 1e5f;  // beyond float16 but for the row's scale
            std::vector<float> out(rows * (rank + 1), -7.0f);
            half.shrink(type, a.bytes.data(), rank, k, half_rows(half, x, k).data(), half_row_bytes(k), rows,
                        out.data(), rank + 1);
            for (std::size_t i = 0; i < rows; ++i) {
              for (std::size_t j = 0; j < rank; ++j) {
                double want = 0, size = 0;
                for (std::size_t c = 0; c < k; ++c) {
                  const double product = static_cast<double>(x[i * k + c]) * a.values[j * k + c];
                  want += product;
                  size += std::fabs(product);
                }
                ASSERT_NEAR(out[i * (rank + 1) + j], want, half_tolerance(half) * size)
                    << name(type) << " k " << k << " rank " << rank << " rows " << rows;
              }
              ASSERT_EQ(out[i * (rank + 1) + rank], -7.0f) << "wrote beyond the rank";
            }
          }
  });
}

void values_of(DType type, const std::vector<std::byte>& half_row, std::vector<float>& out) {
  float down;
  std::memcpy(&down, half_row.data(), sizeof down);
  dequantize(type, half_row.data() + sizeof down, out.data(), out.size());
  for (float& v : out) v *= down;
}

// What a row of int8 holds. f16: to 2^-10 of each value, for the factor is rounded, and so is the product; a
// factor also counts in 2^-24 at best, times 127, where the row's largest value is 8 or more: 2^-21 of that.
// bf16: to 2^-8; subnormals are zero.
TEST(SimdLoraHalf, RowsOfQuantizedBlocks) {
  on_every_half_target([](const LoraHalf& half) {
    const bool f16 = half.type == DType::f16;
    for (const float size : {1e-36f, 1e-30f, 1.0f, 3e4f, 1e35f})
      for (const std::size_t k : {32, 96, 4896}) {
        auto x = normal_floats(k, 2);
        for (std::size_t i = 0; i < k; ++i) x[i] *= size * (i / 32 % 3 == 1 ? 1e-4f : 1.0f);
        std::vector<std::byte> blocks(k / 32 * sizeof(ActBlock)), row(half_row_bytes(k));
        quantize_row(x.data(), k, blocks.data());
        std::vector<float> rest(k), got(k);
        quantization_residual(x.data(), k, blocks.data(), rest.data());
        half.row_of_quantized(blocks.data(), k, row.data());
        values_of(half.type, row, got);
        const float largest = std::fabs(
            *std::ranges::max_element(x, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
        const float relative = f16 ? 0x1p-10f : 0x1p-8f, absolute = f16 ? 0x1p-21f * largest : 0x1p-126f;
        for (std::size_t i = 0; i < k; ++i)
          ASSERT_NEAR(got[i], x[i] - rest[i], relative * std::fabs(x[i] - rest[i]) + absolute)
              << "size " << size << " k " << k << " at " << i;
        x[k - 1] = std::nanf("");
        quantize_row(x.data(), k, blocks.data());
        half.row_of_quantized(blocks.data(), k, row.data());
        values_of(half.type, row, got);
        EXPECT_TRUE(std::isnan(got[k - 1]));
      }
  });
}

TEST(SimdLoraHalf, ExpandOfEveryRemainder) {
  on_every_half_target([](const LoraHalf& half) {
    for (const DType type : {DType::f16, DType::bf16})
      for (const std::size_t rank : {1, 4, 64, 129, 300})
        for (const std::size_t rows : {1, 3, 16, 21}) {
          Matrix b = random_matrix(type, rank * 32, 3);
          if (rank == 4) {  // what float16 sums cannot hold is done in f32
            const std::uint16_t large = type == DType::f16 ? 0x7800 : 0x4700;  // 32,768
            for (std::size_t j = 0; j < rank; ++j) std::memcpy(&b.bytes[2 * (32 * j + 5)], &large, 2);
            dequantize(type, b.bytes.data(), b.values.data(), rank * 32);
          }
          const auto t = normal_floats(rows * rank, 4), before = normal_floats(rows * 35, 5);
          auto y = before;
          half.expand(type, b.bytes.data(), rank, half_rows(half, t, rank).data(), half_row_bytes(rank), rows,
                      y.data(), 35);
          for (std::size_t i = 0; i < rows; ++i)
            for (std::size_t c = 0; c < 35; ++c) {
              double want = before[i * 35 + c], size = std::fabs(want);
              for (std::size_t j = 0; c < 32 && j < rank; ++j) {
                const double product = static_cast<double>(t[i * rank + j]) * b.values[j * 32 + c];
                want += product;
                size += std::fabs(product);
              }
              ASSERT_NEAR(y[i * 35 + c], want, c < 32 ? half_tolerance(half) * size : 0.0)
                  << name(type) << " rank " << rank << " rows " << rows << " column " << c;
            }
        }
  });
}

// The other type's matrices convert to what a target multiplies, those of its own stay.
TEST(SimdLoraHalf, MatricesOfTheOtherType) {
  on_every_half_target([](const LoraHalf& half) {
    for (const DType type : {DType::f16, DType::bf16})
      for (const std::size_t count : {1, 31, 32, 100}) {
        const Matrix m = random_matrix(type, count, 6);
        std::vector<std::uint16_t> got(count + 1, 7), want(count);
        half.matrix(type, m.bytes.data(), count, got.data());
        (half.type == DType::f16 ? f32_to_f16 : f32_to_bf16)(m.values.data(), count, want.data());
        EXPECT_EQ(got.back(), 7) << "wrote beyond the matrix";
        got.pop_back();
        EXPECT_EQ(got, want) << name(type) << " count " << count;
      }
  });
}

}  // namespace
}  // namespace metal_candle::simd
