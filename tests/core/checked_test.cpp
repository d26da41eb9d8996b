#include "core/checked.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace metal_candle {
namespace {

// Eight bits are few enough to try every pair, against the same sum in more bits.
template <typename T>
void expect_exact_for_all_pairs() {
  constexpr int kLow = std::numeric_limits<T>::min(), kHigh = std::numeric_limits<T>::max();
  for (int a = kLow; a <= kHigh; ++a) {
    for (int b = kLow; b <= kHigh; ++b) {
      const auto sum = checked_add<T>(static_cast<T>(a), static_cast<T>(b));
      const auto product = checked_mul<T>(static_cast<T>(a), static_cast<T>(b));
      ASSERT_EQ(sum.has_value(), a + b >= kLow && a + b <= kHigh) << a << " + " << b;
      ASSERT_EQ(product.has_value(), a * b >= kLow && a * b <= kHigh) << a << " * " << b;
      ASSERT_EQ(sum.value_or(0), sum ? a + b : 0);
      ASSERT_EQ(product.value_or(0), product ? a * b : 0);
    }
  }
}

TEST(Checked, UnsignedBytes) { expect_exact_for_all_pairs<std::uint8_t>(); }
TEST(Checked, SignedBytes) { expect_exact_for_all_pairs<std::int8_t>(); }

TEST(Checked, WideEdges) {
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  static_assert(checked_add<std::uint64_t>(kMost, 0) == kMost);
  static_assert(!checked_add<std::uint64_t>(kMost, 1));
  static_assert(checked_mul<std::uint64_t>(kMost / 3, 3) == kMost);
  static_assert(!checked_mul<std::uint64_t>(std::uint64_t{1} << 32, std::uint64_t{1} << 32));
  static_assert(!checked_mul<std::int64_t>(std::numeric_limits<std::int64_t>::min(), -1));
  EXPECT_FALSE(checked_add<std::int64_t>(std::numeric_limits<std::int64_t>::max(), 1));
}

}  // namespace
}  // namespace metal_candle
