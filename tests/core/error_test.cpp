#include "metal_candle/error.h"

#include <gtest/gtest.h>

#include <exception>
#include <set>
#include <string>
#include <thread>

namespace metal_candle {
namespace {

TEST(Error, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(ErrorCode::internal); ++code) {
    EXPECT_TRUE(names.insert(to_string(static_cast<ErrorCode>(code))).second) << code;
  }
  EXPECT_EQ(names.count("unknown"), 0u);
  EXPECT_EQ(to_string(ErrorCode::malformed_file), "malformed_file");
  EXPECT_EQ(to_string(ErrorCode::out_of_memory), "out_of_memory");
}

TEST(Error, CarriesCodeAndMessageAcrossThreads) {
  std::exception_ptr caught;
  std::thread([&] {
    try {
      throw Error(ErrorCode::io_error, "file: why");
    } catch (...) {
      caught = std::current_exception();
    }
  }).join();
  try {
    std::rethrow_exception(caught);
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "file: why");
    const auto* typed = dynamic_cast<const Error*>(&error);
    ASSERT_NE(typed, nullptr);
    EXPECT_EQ(typed->code(), ErrorCode::io_error);
  }
}

}  // namespace
}  // namespace metal_candle
