// Copies of every length, and each place where a value may not be a number.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/simd/finite_copy.h"
#include "simd_attention_targets.h"

namespace metal_candle::simd {
namespace {

struct Line {
  alignas(64) std::byte bytes[64];
};

template <class T>
void expect_copies(DType type, T largest, T infinity, T nan, T negative_nan) {
  on_every_target([&] {
    for (const std::size_t count : {1, 5, 16, 31, 32, 33, 64, 200}) {
      std::vector<T> in(count);
      for (std::size_t i = 0; i < count; ++i) in[i] = i % 3 == 0 ? largest : static_cast<T>(i + 1);
      const std::size_t bytes = count * sizeof(T);
      std::vector<Line> out((bytes + 63) / 64 + 1);
      const auto copy = [&] {
        std::memset(static_cast<void*>(out.data()), 0x55, out.size() * sizeof(Line));
        return finite_copy(type, reinterpret_cast<const std::byte*>(in.data()), bytes, out[0].bytes);
      };
      EXPECT_TRUE(copy());
      EXPECT_EQ(std::memcmp(out.data(), in.data(), bytes), 0);
      const auto* all = out[0].bytes;
      for (std::size_t i = bytes; i < out.size() * sizeof(Line); ++i)
        ASSERT_EQ(all[i], i < (bytes + 63) / 64 * 64 ? std::byte{0} : std::byte{0x55})
            << count << " at " << i;
      for (std::size_t i = 0; i < count; ++i)
        for (const T bad : {infinity, nan, negative_nan}) {
          const T before = in[i];
          in[i] = bad;
          EXPECT_FALSE(copy()) << count << " at " << i;
          in[i] = before;
        }
    }
  });
}

TEST(FiniteCopy, F32) {
  expect_copies<std::uint32_t>(DType::f32, 0xff7fffff, 0x7f800000, 0x7fc00000, 0xff800001);
}
TEST(FiniteCopy, F16) { expect_copies<std::uint16_t>(DType::f16, 0xfbff, 0x7c00, 0x7e00, 0xfc01); }
TEST(FiniteCopy, Bf16) { expect_copies<std::uint16_t>(DType::bf16, 0xff7f, 0x7f80, 0x7fc0, 0xff81); }

}  // namespace
}  // namespace metal_candle::simd
