// Every way a GGUF file can lie. Each must end in one typed error that names the file and the place.
#include <gtest/gtest.h>

#include <functional>

#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/gguf_builder.h"

namespace metal_candle {
namespace {

using test::GgufBuilder;
constexpr auto kMalformed = ErrorCode::malformed_file;
constexpr auto kUnsupported = ErrorCode::unsupported;

GgufBuilder small() {
  GgufBuilder builder;
  builder.set("general.architecture", "llama").set("tokens", std::vector<std::string>{"a", "bc", "def"});
  builder.set("types", std::vector<std::int32_t>{1, 2, 3});
  builder.tensor("w", DType::q4_1, {2, 32}, std::vector<float>(64, 1.0f));
  builder.tensor("v", DType::f32, {4}, std::vector<float>(4, 1.0f));
  return builder;
}

void expect_bad(const GgufBuilder& builder, ErrorCode code, std::initializer_list<std::string_view> parts) {
  const auto bytes = builder.bytes();
  EXPECT_TRUE(test::throws_error([&] { GgufFile::parse(bytes, "bad.gguf"); }, code, parts));
}

TEST(GgufBadInput, TruncatedAnywhere) {
  const auto bytes = small().bytes();
  ASSERT_EQ(GgufFile::parse(bytes, "whole").tensors().size(), 2u);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    // A copy of its own, so that a sanitizer sees a read past the end.
    const std::vector<std::byte> part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_MC_ERROR(GgufFile::parse(part, "cut.gguf"), kMalformed, "cut.gguf: ") << length;
  }
}

TEST(GgufBadInput, Header) {
  GgufBuilder builder = small();
  builder.magic = "GGML";
  expect_bad(builder, kMalformed, {"bad.gguf", "not a GGUF file"});
  builder = small();
  builder.version = 1;
  expect_bad(builder, kUnsupported, {"version 1"});
  builder.version = 4;
  expect_bad(builder, kUnsupported, {"version 4"});
  builder.version = 0x03000000;
  expect_bad(builder, kUnsupported, {"big-endian"});
}

TEST(GgufBadInput, AbsurdCounts) {
  for (const std::uint64_t extra : {std::uint64_t{1} << 20, std::uint64_t{1} << 63, ~std::uint64_t{0} - 8}) {
    GgufBuilder builder = small();
    builder.extra_entries = extra;
    expect_bad(builder, kMalformed, {"metadata keys", "more than its"});
    builder = small();
    builder.extra_tensors = extra;
    expect_bad(builder, kMalformed, {"tensors", "more than its"});
  }
}

std::vector<std::byte> raw_entry(std::uint32_t type, std::initializer_list<std::uint64_t> words,
                                 std::string_view key = "key") {
  std::vector<std::byte> out;
  GgufBuilder::put_string(out, key);
  GgufBuilder::put(out, type);
  for (const std::uint64_t word : words) GgufBuilder::put(out, word);
  return out;
}

TEST(GgufBadInput, Metadata) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;
  expect_bad(small().set("general.architecture", "twice"), kMalformed,
             {"general.architecture", "occurs twice"});
  expect_bad(small().set("", 1), kMalformed, {"1 to 65535 bytes"});
  expect_bad(small().set(std::string(65536, 'k'), 1), kMalformed, {"1 to 65535 bytes", "..."});
  expect_bad(small().set_raw(raw_entry(13, {})), kMalformed, {"\"key\"", "value type 13"});
  expect_bad(small().set_raw(raw_entry(8, {kHuge})), kMalformed, {"ends inside", "\"key\""});
  expect_bad(small().set_raw(raw_entry(7, {2})), kMalformed, {"\"key\"", "neither 0 nor 1"});
  const auto array = [](std::uint32_t element, std::uint64_t count) {
    std::vector<std::byte> out = raw_entry(9, {});
    GgufBuilder::put(out, element);
    GgufBuilder::put(out, count);
    return out;
  };
  for (const std::uint64_t count : {kHuge, kHuge / 4, ~std::uint64_t{0}, std::uint64_t{10000}}) {
    expect_bad(small().set_raw(array(8, count)), kMalformed, {"ends inside", "\"key\""});
    expect_bad(small().set_raw(array(0, count)), kMalformed, {"ends inside", "\"key\""});
    expect_bad(small().set_raw(array(12, count)), kMalformed, {"ends inside", "\"key\""});
  }
  expect_bad(small().set_raw(array(9, 1)), kUnsupported, {"\"key\"", "array of arrays"});
  expect_bad(small().set_raw(array(77, 1)), kMalformed, {"\"key\"", "value type 77"});
  for (const std::uint32_t alignment : {0u, 3u, 48u}) {
    expect_bad(small().set("general.alignment", alignment), kMalformed,
               {"general.alignment", "power of two"});
  }
  expect_bad(small().set("general.alignment", "wide"), kMalformed, {"general.alignment"});
  expect_bad(small().set("general.alignment", kHuge), kMalformed, {"bad.gguf"});
}

struct BadTensor {
  const char* what;
  std::function<void(GgufBuilder::Tensor&)> change;
  ErrorCode code;
  const char* part;
};

TEST(GgufBadInput, Tensors) {
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 63;
  using T = GgufBuilder::Tensor;
  const BadTensor table[] = {
      {"no dimension", [](T& t) { t.ne = {}; }, kMalformed, "0 dimensions"},
      {"five dimensions",
       [](T& t) {
         t.ne = {32, 1, 1, 1, 1};
       },
       kMalformed, "5 dimensions"},
      {"zero dimension",
       [](T& t) {
         t.ne = {32, 0};
       },
       kMalformed, "dimension of 0"},
      {"product overflows",
       [](T& t) {
         t.ne = {32, kHuge, 4};
       },
       kMalformed, "overflows"},
      {"product wraps to 0",
       [](T& t) {
         t.ne = {1u << 31, 1u << 31, 1u << 31};
       },
       kMalformed, "overflows"},
      {"bytes overflow", [](T& t) { t.type = 27, t.ne = {kHuge}; }, kMalformed, "overflows"},
      {"too large",
       [](T& t) {
         t.ne = {32, 1u << 30};
       },
       kMalformed, "past the end"},
      {"part of a block",
       [](T& t) {
         t.ne = {33, 2};
       },
       kMalformed, "rows of 33"},
      {"K-quant of 32", [](T& t) { t.type = 12; }, kMalformed, "256 in a q4_k block"},
      {"blocks only in total",
       [](T& t) {
         t.ne = {16, 4};
       },
       kMalformed, "rows of 16"},
      {"unsupported type", [](T& t) { t.type = 16; }, kUnsupported, "IQ2_XXS"},
      {"retired type", [](T& t) { t.type = 4; }, kUnsupported, "ggml type 4"},
      {"unknown type", [](T& t) { t.type = 4000000000u; }, kUnsupported, "ggml type 4000000000"},
      {"misaligned", [](T& t) { t.offset = 8; }, kMalformed, "alignment 32"},
      {"past the end", [](T& t) { t.offset = 1 << 20; }, kMalformed, "past the end"},
      {"offset 2^63", [](T& t) { t.offset = kHuge; }, kMalformed, "past the end"},
      {"offset wraps", [](T& t) { t.offset = ~std::uint64_t{0} - 31; }, kMalformed, "past the end"},
      {"overlap",
       [](T& t) {
         t.ne = {32, 4};
       },
       kMalformed, "overlaps"},
  };
  for (const BadTensor& bad : table) {
    SCOPED_TRACE(bad.what);
    GgufBuilder builder = small();
    builder.tensors[0].name = "tensor.bad";
    builder.tensor("last", DType::f32, {64}, std::vector<float>(64, 0.0f));
    bad.change(builder.tensors[0]);
    expect_bad(builder, bad.code, {"bad.gguf", "\"tensor.bad\"", bad.part});
  }
}

TEST(GgufBadInput, DuplicateTensorAndUnprintableName) {
  GgufBuilder builder = small();
  builder.tensors[1].name = "w";
  expect_bad(builder, kMalformed, {"\"w\"", "occurs twice"});
  builder = small();
  builder.tensors[0].name = "a\nb\x1b[31m";
  builder.tensors[0].type = 99;
  expect_bad(builder, kUnsupported, {"\"a\\x0ab\\x1b[31m\""});
}

TEST(GgufBadInput, SameOffsetTwiceIsAnOverlap) {
  GgufBuilder builder = small();
  builder.tensors[1].offset = builder.tensors[0].offset;
  expect_bad(builder, kMalformed, {"overlaps"});
}

}  // namespace
}  // namespace metal_candle
