// version.h and the file VERSION, which CMake hands over, must agree.
#include "metal_candle/version.h"

#include <gtest/gtest.h>

#include <string>

namespace metal_candle {
namespace {

TEST(Version, HeaderAgreesWithTheProject) {
  EXPECT_STREQ(kVersion, MC_PROJECT_VERSION);
  EXPECT_EQ(kVersion, std::to_string(kVersionMajor) + "." + std::to_string(kVersionMinor) + "." +
                          std::to_string(kVersionPatch));
}

}  // namespace
}  // namespace metal_candle
