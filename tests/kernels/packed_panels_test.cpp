// Products with an operand that stays packed: the bits of those that pack it each time.
#include "kernels/packed_panels.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <vector>

#include "kernels/compute_pool.h"
#include "simd_attention_targets.h"

namespace metal_candle {
namespace {

using simd::normal_floats;
using simd::on_every_target;

// Rows that notice when they are read.
class CountedRows final : public RowSource {
 public:
  CountedRows(const float* data, std::size_t stride) : rows_(data, stride) {}
  const float* row(std::size_t row, std::size_t column, std::size_t count, float* scratch) const override {
    ++reads;
    return rows_.row(row, column, count, scratch);
  }
  mutable std::atomic<std::size_t> reads = 0;

 private:
  FloatRows rows_;
};

// c = a · b and two thin terms over some columns, as LoRA's.
struct Problem {
  std::size_t m, n, k;
  bool b_transposed;
  std::vector<float> a = normal_floats(m * k, 1), b = normal_floats(n * k, 2);
  std::vector<float> thin_a = normal_floats(m * 3, 3), thin_b = normal_floats(3 * n, 4);
  CountedRows rows{b.data(), b_transposed ? k : n};

  std::vector<float> product(bool half, const PackedPanels* panels) const {
    const FloatRows thin(thin_b.data(), n);
    const GemmTerm terms[] = {{{a.data(), k, 1}, &rows, b_transposed, k, 0, n, panels},
                              {{thin_a.data(), 3, 1}, &thin, false, 3, 0, n / 2},
                              {{thin_a.data(), 3, 1}, &thin, false, 3, n / 2, n}};
    std::vector<float> c(m * n, 1.0f);
    gemm({m, n, terms, c.data(), n, true, half});
    return c;
  }
};

TEST(PackedPanels, GiveTheSameBitsAndSpareTheRows) {
  on_every_target([] {
    for (const bool half : {false, true})
      for (const bool transposed : {false, true})
        for (const auto& [m, n, k] : {std::array<std::size_t, 3>{1, 1, 1},
                                      {13, 33, 17},
                                      {25, 64, 640},
                                      {5, 1601, 70},
                                      {14, 130, 1303}}) {
          SCOPED_TRACE(std::to_string(m) + " x " + std::to_string(n) + " x " + std::to_string(k));
          const Problem problem{m, n, k, transposed};
          const std::vector<float> packed_each_time = problem.product(half, nullptr);
          PackedPanels panels;
          panels.pack(half ? simd::gemm_half() : simd::gemm_f32(), problem.rows, transposed, k, n);
          problem.rows.reads = 0;
          EXPECT_EQ(problem.product(half, &panels), packed_each_time);
          EXPECT_EQ(problem.product(half, &panels), packed_each_time) << "the second time";
          EXPECT_EQ(problem.rows.reads, 0u);
        }
  });
}

TEST(PackedPanels, OfAnotherKernelAreLeftAlone) {
  on_every_target([] {
    const Problem problem{7, 90, 50, true};
    PackedPanels panels;
    EXPECT_EQ(problem.product(false, &panels), problem.product(false, nullptr)) << "nothing is packed yet";
    panels.pack(simd::gemm_half(), problem.rows, true, problem.k, problem.n);
    EXPECT_FALSE(panels.serves(simd::gemm_f32()));
    EXPECT_EQ(problem.product(false, &panels), problem.product(false, nullptr));
  });
}

TEST(PackedPanels, AreTheSameForAnyNumberOfThreads) {
  const unsigned before = compute_pool().size();
  const Problem problem{30, 333, 1400, true};
  const std::vector<float> expected = problem.product(true, nullptr);
  for (const unsigned threads : {1u, 2u, 5u}) {
    set_compute_threads(threads);
    PackedPanels panels;
    panels.pack(simd::gemm_half(), problem.rows, true, problem.k, problem.n);
    EXPECT_EQ(problem.product(true, &panels), expected) << threads;
  }
  set_compute_threads(before);
}

}  // namespace
}  // namespace metal_candle
