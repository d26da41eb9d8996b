#include "io/gguf_metadata.h"

#include <gtest/gtest.h>

#include <string_view>

#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/gguf_builder.h"

namespace metal_candle {
namespace {

using test::GgufBuilder;

class GgufMetadataTest : public testing::Test {
 protected:
  const std::vector<std::byte> bytes_ = GgufBuilder()
                                            .set("text", "hello")
                                            .set("small", std::uint8_t{7})
                                            .set("negative", std::int16_t{-7})
                                            .set("positive", std::int64_t{1} << 40)
                                            .set("huge", ~std::uint64_t{0})
                                            .set("real", 1.5f)
                                            .set("flag", true)
                                            .set("words", std::vector<std::string>{"a", "b"})
                                            .set("bytes", std::vector<std::uint8_t>{1, 255})
                                            .set("huges", std::vector<std::uint64_t>{1, ~std::uint64_t{0}})
                                            .set("scores", std::vector<float>{-0.5f, 2.0f})
                                            .set("none", std::vector<std::string>{})
                                            .bytes();
  const GgufFile file_ = GgufFile::parse(bytes_, "m.gguf");
  const GgufMetadata& metadata_ = file_.metadata();
};

TEST_F(GgufMetadataTest, ConvertsWithinWhatFits) {
  EXPECT_EQ(metadata_.required_string("text"), "hello");
  EXPECT_EQ(metadata_.required_u64("small"), 7u);
  EXPECT_EQ(metadata_.required_i64("small"), 7);
  EXPECT_EQ(metadata_.required_f64("small"), 7.0);
  EXPECT_EQ(metadata_.required_i64("negative"), -7);
  EXPECT_EQ(metadata_.required_f64("negative"), -7.0);
  EXPECT_EQ(metadata_.required_u64("positive"), std::uint64_t{1} << 40);
  EXPECT_EQ(metadata_.required_u64("huge"), ~std::uint64_t{0});
  EXPECT_EQ(metadata_.required_f64("real"), 1.5);
  EXPECT_TRUE(metadata_.required_bool("flag"));
  EXPECT_EQ(metadata_.string_array("words").size(), 2u);
  EXPECT_EQ(metadata_.string_array("words")[1], "b");
  EXPECT_TRUE(metadata_.string_array("none").empty());
  EXPECT_EQ(metadata_.i64_array("bytes"), (std::vector<std::int64_t>{1, 255}));
  EXPECT_EQ(metadata_.f32_array("bytes"), (std::vector<float>{1, 255}));
  EXPECT_EQ(metadata_.f32_array("scores"), (std::vector<float>{-0.5f, 2.0f}));
}

TEST_F(GgufMetadataTest, RefusesWhatDoesNotFit) {
  constexpr auto kBad = ErrorCode::malformed_file;
  EXPECT_MC_ERROR(metadata_.required_u64("negative"), kBad, "m.gguf", "\"negative\"", "non-negative", "i16");
  EXPECT_MC_ERROR(metadata_.required_i64("huge"), kBad, "\"huge\"", "u64");
  EXPECT_MC_ERROR(metadata_.required_u64("real"), kBad, "\"real\"", "f32");
  EXPECT_MC_ERROR(metadata_.required_u64("flag"), kBad, "\"flag\"", "bool");
  EXPECT_MC_ERROR(metadata_.required_bool("small"), kBad, "\"small\"", "a bool");
  EXPECT_MC_ERROR(metadata_.required_string("small"), kBad, "\"small\"", "a string");
  EXPECT_MC_ERROR(metadata_.required_f64("text"), kBad, "\"text\"", "a number");
  EXPECT_MC_ERROR(metadata_.required_string("words"), kBad, "\"words\"", "array of string");
  EXPECT_MC_ERROR(metadata_.string_array("text"), kBad, "\"text\"", "an array");
  EXPECT_MC_ERROR(metadata_.string_array("bytes"), kBad, "\"bytes\"", "array of u8");
  EXPECT_MC_ERROR(metadata_.i64_array("words"), kBad, "\"words\"");
  EXPECT_MC_ERROR(metadata_.i64_array("scores"), kBad, "\"scores\"");
  EXPECT_MC_ERROR(metadata_.i64_array("huges"), kBad, "\"huges\"");
  EXPECT_MC_ERROR(metadata_.f32_array("words"), kBad, "\"words\"");
}

TEST_F(GgufMetadataTest, AbsentKeysAreEmptyOrNamed) {
  EXPECT_FALSE(metadata_.contains("absent"));
  EXPECT_EQ(metadata_.optional_u64("absent"), std::nullopt);
  EXPECT_EQ(metadata_.optional_string("absent"), std::nullopt);
  EXPECT_EQ(metadata_.optional_f64("absent"), std::nullopt);
  EXPECT_EQ(metadata_.optional_bool("absent"), std::nullopt);
  EXPECT_FALSE(metadata_.optional_string_array("absent").has_value());
  EXPECT_FALSE(metadata_.optional_i64_array("absent").has_value());
  EXPECT_FALSE(metadata_.optional_f32_array("absent").has_value());
  EXPECT_MC_ERROR(metadata_.required_u64("absent"), ErrorCode::malformed_file, "m.gguf",
                  "\"absent\" is missing");
  EXPECT_MC_ERROR(metadata_.string_array("absent"), ErrorCode::malformed_file, "\"absent\" is missing");
}

// Zero copies is what makes 98,000 strings cost a millisecond; a time would depend on the machine.
TEST(GgufMetadata, StringsAreViewsIntoTheFile) {
  const auto bytes =
      GgufBuilder().set("one", "text").set("many", std::vector<std::string>{"a", "bc"}).bytes();
  const GgufFile file = GgufFile::parse(bytes, "m.gguf");
  const auto inside = [&](std::string_view text) {
    const auto* begin = reinterpret_cast<const char*>(bytes.data());
    return text.data() >= begin && text.data() + text.size() <= begin + bytes.size();
  };
  EXPECT_TRUE(inside(file.metadata().required_string("one")));
  for (const std::string_view text : file.metadata().string_array("many")) EXPECT_TRUE(inside(text)) << text;
  for (const GgufEntry& entry : file.metadata().entries()) EXPECT_TRUE(inside(entry.key)) << entry.key;
}

}  // namespace
}  // namespace metal_candle
