#include "core/json.h"

#include <gtest/gtest.h>

#include "support/expect_error.h"

namespace metal_candle {
namespace {

constexpr auto kBad = ErrorCode::malformed_file;

TEST(ParseJson, ParsesValues) {
  EXPECT_EQ(parse_json(R"({"a":[1,-2,0.5,"\u00e9",null,true]} )", "f")["a"].dump(),
            "[1,-2,0.5,\"\u00e9\",null,true]");
}

TEST(ParseJson, ErrorsNameTheSourceAndTheByte) {
  EXPECT_MC_ERROR(parse_json("{\"a\":", "dir/config.json"), kBad, "dir/config.json: invalid JSON at byte 6");
  EXPECT_MC_ERROR(parse_json("", "f"), kBad, "f: invalid JSON");
  EXPECT_MC_ERROR(parse_json("{} x", "f"), kBad, "f: invalid JSON at byte 4");
  EXPECT_MC_ERROR(parse_json("\"\xff\"", "f"), kBad, "f: invalid JSON");
  EXPECT_MC_ERROR(parse_json("[1e999]", "f"), kBad, "f: JSON with a number out of range");
}

TEST(ParseJson, BoundsTheDepth) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[').append(depth, ']'); };
  EXPECT_EQ(parse_json(nested(64), "f").size(), 1u);
  EXPECT_MC_ERROR(parse_json(nested(65), "f"), kBad, "f: JSON nested deeper than 64");
  EXPECT_MC_ERROR(parse_json(std::string(10'000'000, '{'), "f"), kBad, "deeper than 64");
  // Brackets inside strings are text, also behind escaped quotes.
  EXPECT_EQ(parse_json(R"(["[[[[","\"[[{{","\\"])", "f", {.depth = 1}).size(), 3u);
  EXPECT_MC_ERROR(parse_json(R"(["\\",[]])", "f", {.depth = 1}), kBad, "deeper than 1");
}

TEST(ParseJson, RefusesRepeatedKeysOnRequest) {
  EXPECT_EQ(parse_json(R"({"a":1,"a":2})", "f").size(), 1u);
  EXPECT_MC_ERROR(parse_json(R"({"a":1,"a":2})", "f", {.unique_keys = true}), kBad,
                  "f: the JSON key \"a\" occurs twice");
  EXPECT_MC_ERROR(parse_json(R"([{"b":{"a":1,"a":2}}])", "f", {.unique_keys = true}), kBad, "\"a\"");
  EXPECT_EQ(parse_json(R"({"a":{"a":[{"a":1},{"a":2}]},"b":{"a":3}})", "f", {.unique_keys = true}).size(),
            2u);
}

}  // namespace
}  // namespace metal_candle
