// Choosing and forcing the instruction set.
#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <string>

#include "kernels/simd/target.h"
#include "metal_candle/error.h"

namespace metal_candle::simd {
namespace {

constexpr SimdTarget kAll[] = {SimdTarget::scalar,      SimdTarget::avx2,        SimdTarget::avx2_vnni,
                               SimdTarget::avx512,      SimdTarget::avx512_vnni, SimdTarget::avx512_bf16,
                               SimdTarget::avx512_fp16, SimdTarget::neon};

TEST(SimdTargetTest, NamesRoundTrip) {
  for (SimdTarget target : kAll) EXPECT_EQ(parse_target(name(target)), target);
  EXPECT_EQ(parse_target("avx1024"), std::nullopt);
  EXPECT_EQ(parse_target(""), std::nullopt);
}

TEST(SimdTargetTest, ForcingIsSeenAndUnsupportedTargetsAreRefused) {
  const SimdTarget before = active_target();
  const std::vector<SimdTarget> supported = supported_targets();
  EXPECT_EQ(supported.front(), SimdTarget::scalar);
  for (SimdTarget target : kAll) {
    if (std::find(supported.begin(), supported.end(), target) != supported.end()) {
      force_target(target);
      EXPECT_EQ(active_target(), target);
    } else {
      try {
        force_target(target);
        ADD_FAILURE() << "no error for " << name(target);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::unsupported);
        EXPECT_NE(std::string(error.what()).find(name(target)), std::string::npos);
      }
    }
  }
  force_target(before);
}

#if defined(__x86_64__)
TEST(SimdTargetTest, HighwayFollows) {
  const SimdTarget before = active_target();
  force_target(SimdTarget::scalar);
  EXPECT_EQ(hwy::SupportedTargets() & (HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL), 0);
  const std::vector<SimdTarget> supported = supported_targets();
  if (std::find(supported.begin(), supported.end(), SimdTarget::avx2) != supported.end()) {
    force_target(SimdTarget::avx2);
    EXPECT_EQ(hwy::SupportedTargets() & (HWY_AVX3 | HWY_AVX3_DL), 0);
    EXPECT_NE(hwy::SupportedTargets() & HWY_AVX2, 0);
  }
  force_target(before);
}
#endif

}  // namespace
}  // namespace metal_candle::simd
