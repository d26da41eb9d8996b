// Every way a safetensors file can lie. Each must end in one typed error that names the file and the place.
#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/safetensors_builder.h"

namespace metal_candle {
namespace {

using test::safetensors_bytes;
using test::safetensors_entry;
using test::safetensors_header;
constexpr auto kMalformed = ErrorCode::malformed_file;

TEST(SafetensorsBadInput, TruncatedAnywhere) {
  const std::string whole = test::read_text(MC_GOLDEN_DIR "/io/types.safetensors");
  ASSERT_EQ(parse_safetensors(test::as_bytes(whole), "whole").tensors.size(), 16u);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    // A copy of its own, so that a sanitizer sees a read past the end.
    const auto all = test::as_bytes(whole).first(length);
    const std::vector<std::byte> part(all.begin(), all.end());
    EXPECT_MC_ERROR(parse_safetensors(part, "cut.safetensors"), kMalformed, "cut.safetensors: ") << length;
  }
}

TEST(SafetensorsBadInput, HeaderLength) {
  for (const std::uint64_t length : {std::uint64_t{3}, std::uint64_t{100'000'000}, std::uint64_t{100'000'001},
                                     std::uint64_t{1} << 63, ~std::uint64_t{0} - 1, std::uint64_t{0}}) {
    EXPECT_MC_ERROR(parse_safetensors(safetensors_bytes("{\"a\": 1}", 4, length), "bad.st"), kMalformed,
                    "bad.st: ");
  }
}

struct BadHeader {
  std::string header;
  std::string_view part;
  ErrorCode code = kMalformed;
};

TEST(SafetensorsBadInput, Headers) {
  const auto one = [](std::string_view dtype, std::string_view shape, std::uint64_t begin,
                      std::uint64_t end) {
    return safetensors_header({safetensors_entry("t", dtype, shape, begin, end)});
  };
  const auto two = [](std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d) {
    const auto shape = [](std::uint64_t n) { return std::string("[").append(std::to_string(n)).append("]"); };
    return safetensors_header(
        {safetensors_entry("s", "U8", shape(b - a), a, b), safetensors_entry("t", "U8", shape(d - c), c, d)});
  };
  const BadHeader table[] = {
      {"[]", "does not begin with '{'"},
      {" {}", "does not begin with '{'"},
      {"{", "invalid JSON at byte"},
      {"{}{}", "invalid JSON at byte"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}", "invalid JSON"},
      {"{\"\xff\":1}", "invalid JSON"},
      {"{\"t\":[[[[[[1]]]]]]}", "\"t\" is not described"},
      {"{\"t\":{\"x\":[[1]]}}", "deeper than 3"},
      {std::string("{\"t\":{\"x\":").append(100000, '['), "deeper than 3"},
      {std::string("{").append(100000, '['), "invalid JSON at byte"},
      {"{\"t\":7}", "\"t\" is not described"},
      {"{\"t\":{}}", "no \"shape\""},
      {"{\"t\":{\"shape\":[8]}}", "no \"dtype\""},
      {"{\"t\":{\"shape\":[8],\"dtype\":\"U8\"}}", "no \"data_offsets\""},
      {"{\"t\":{\"shape\":[8],\"dtype\":8,\"data_offsets\":[0,8]}}", "string as \"dtype\""},
      {one("F8_E4M3", "[8]", 0, 8), "\"F8_E4M3\"", ErrorCode::unsupported},
      {one("f32", "[2]", 0, 8), "\"f32\"", ErrorCode::unsupported},
      {"{\"t\":{\"dtype\":[\"U8\"]}}", "string as \"dtype\""},
      {"{\"t\":{\"shape\":{\"n\":8}}}", "list of non-negative integers as \"shape\""},
      {"{\"t\":{\"data_offsets\":null}}", "list of non-negative integers as \"data_offsets\""},
      {"{\"t\":{\"data_offsets\":[0,true]}}", "list of non-negative integers as \"data_offsets\""},
      {one("U8", "8", 0, 8), "list of non-negative integers as \"shape\""},
      {one("U8", "[-8]", 0, 8), "list of non-negative integers as \"shape\""},
      {one("U8", "[8.0]", 0, 8), "list of non-negative integers as \"shape\""},
      {one("U8", "[\"8\"]", 0, 8), "list of non-negative integers as \"shape\""},
      {one("U8", "[99999999999999999999]", 0, 8), "list of non-negative integers as \"shape\""},
      {one("U8", "[1e999]", 0, 8), "number out of range"},
      {one("U8", "[9223372036854775808,2]", 0, 0), "overflows"},
      {one("F32", "[9223372036854775808]", 0, 0), "overflows"},
      {one("F32", "[4294967296,4294967296]", 0, 0), "overflows"},
      {one("F32", "[8]", 0, 8), "takes 32 bytes"},
      {one("U8", "[4]", 0, 8), "takes 4 bytes"},
      {one("U8", "[8]", 8, 0), "begin <= end"},
      {one("U8", "[9]", 0, 9), "truncated"},
      {one("U8", "[9223372036854775808]", 0, 9223372036854775808u), "truncated"},
      {one("U8", "[7]", 1, 8), "gap"},
      {one("U8", "[7]", 0, 7), "1 bytes after its last tensor"},
      {two(0, 3, 4, 8), "gap"},
      {two(0, 5, 4, 8), "overlaps"},
      {two(0, 8, 0, 8), "overlaps"},
      {safetensors_header(
           {safetensors_entry("t", "U8", "[4]", 0, 4), safetensors_entry("t", "U8", "[4]", 4, 8)}),
       "\"t\" occurs twice"},
      {"{\"t\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[8],\"data_offsets\":[0,8]}}",
       "\"dtype\" occurs twice"},
      {"{\"t\":{\"shape\":[8],\"shape\":[8]}}", "\"shape\" occurs twice"},
      {"{\"t\":{\"x\":1,\"x\":1}}", "\"x\" occurs twice"},
      {"{\"__metadata__\":{},\"__metadata__\":null}", "\"__metadata__\" occurs twice"},
      {"{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}", "\"k\" occurs twice"},
      {"{\"__metadata__\":[\"k\"]}", "\"__metadata__\" is not"},
      {"{\"__metadata__\":{\"k\":{}}}", "\"__metadata__\" key \"k\""},
      {"{\"__metadata__\":7}", "\"__metadata__\" is not"},
      {"{\"__metadata__\":{\"k\":7}}", "\"__metadata__\" key \"k\""},
      {"{}", "8 bytes after its last tensor"},
  };
  for (const BadHeader& bad : table) {
    EXPECT_MC_ERROR(parse_safetensors(safetensors_bytes(bad.header, 8), "bad.st"), bad.code,
                    "bad.st: ", bad.part)
        << bad.header.substr(0, 200);
  }
}

}  // namespace
}  // namespace metal_candle
