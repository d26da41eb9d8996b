#include "io/text_file.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

TEST(TextFile, IsReadWholeOrAbsent) {
  const test::TempDir dir;
  EXPECT_EQ(read_text_file(dir.write("a.json", "{\"a\":\n1}\n")), "{\"a\":\n1}\n");
  EXPECT_EQ(read_text_file(dir / "b.json"), std::nullopt);
  EXPECT_MC_ERROR(read_text_file(dir / std::string(300, 'a')), ErrorCode::invalid_argument, "aaa");
  EXPECT_MC_ERROR(read_text_file(dir.path()), ErrorCode::invalid_argument, "directory");
}

}  // namespace
}  // namespace metal_candle
