// EXPECT_MC_ERROR(statement, code, part...): the statement throws metal_candle::Error with this code and a
// one-line message that holds every part.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "metal_candle/error.h"

namespace metal_candle::test {

template <typename F>
testing::AssertionResult throws_error(const F& call, ErrorCode code,
                                      std::initializer_list<std::string_view> parts) {
  try {
    call();
  } catch (const Error& error) {
    const std::string message = error.what();
    if (error.code() != code) {
      return testing::AssertionFailure() << "code " << to_string(error.code()) << ", message: " << message;
    }
    if (message.find('\n') != std::string::npos) {
      return testing::AssertionFailure() << "message of several lines: " << message;
    }
    for (const std::string_view part : parts) {
      if (message.find(part) == std::string::npos) {
        return testing::AssertionFailure() << "\"" << part << "\" is not in the message: " << message;
      }
    }
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "nothing was thrown";
}

}  // namespace metal_candle::test

#define EXPECT_MC_ERROR(statement, code, ...) \
  EXPECT_TRUE(::metal_candle::test::throws_error([&] { static_cast<void>(statement); }, code, {__VA_ARGS__}))
