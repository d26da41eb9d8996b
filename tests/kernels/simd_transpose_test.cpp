// Transposition of every remainder, against one index after another.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/simd/transpose.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

template <class T, class F>
void expect_transposed(const F& transpose) {
  on_every_target([&] {
    for (const std::size_t rows : {1, 3, 4, 7, 8, 9, 16, 31, 32, 44, 64})
      for (const std::size_t columns : {1, 2, 4, 5, 8, 13, 40})
        for (const std::size_t count : {1, 3}) {
          const std::size_t size = rows * columns;
          std::vector<T> in(size * count), out(size * count);
          std::iota(in.begin(), in.end(), T{1});
          transpose(reinterpret_cast<const std::byte*>(in.data()), rows, columns,
                    reinterpret_cast<std::byte*>(out.data()), count);
          for (std::size_t i = 0; i < count; ++i)
            for (std::size_t r = 0; r < rows; ++r)
              for (std::size_t c = 0; c < columns; ++c)
                ASSERT_EQ(out[i * size + c * rows + r], in[i * size + r * columns + c])
                    << rows << " x " << columns;
        }
  });
}

TEST(SimdTranspose, Words16) { expect_transposed<std::uint16_t>(transpose_16); }
TEST(SimdTranspose, Words32) { expect_transposed<std::uint32_t>(transpose_32); }

}  // namespace
}  // namespace metal_candle::simd
