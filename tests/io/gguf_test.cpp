#include "io/gguf.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/json.h"
#include "support/file_bytes.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::GgufBuilder;

/// A metadata value as JSON, in the shape Python's GGUFReader gives it.
Json to_json(const GgufMetadata& metadata, const GgufEntry& entry) {
  if (const auto* array = std::get_if<GgufArray>(&entry.value)) {
    if (array->element == GgufType::string) return metadata.string_array(entry.key);
    if (array->element == GgufType::f32) return metadata.f32_array(entry.key);
    if (array->element == GgufType::u64) {
      Json out = Json::array();
      for (std::size_t i = 0; i < array->count; ++i) {
        std::uint64_t value;
        std::memcpy(&value, array->bytes.data() + 8 * i, 8);
        out.push_back(value);
      }
      return out;
    }
    Json out = Json::array();
    for (const auto v : metadata.i64_array(entry.key)) {
      out.push_back(array->element == GgufType::boolean ? Json(v != 0) : Json(v));
    }
    return out;
  }
  return std::visit(
      [](const auto& value) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, GgufArray>)
          return {};
        else
          return value;
      },
      entry.value);
}

// Golden: written by Python's GGUFWriter, read back by its GGUFReader (scripts/golden/gguf_reader.py).
TEST(Gguf, ReadsWhatPythonWroteAsPythonReadsIt) {
  const std::string dir = MC_GOLDEN_DIR "/io/";
  const Json expected = parse_json(test::read_text(dir + "types.json"), "types.json");
  const GgufFile file = GgufFile::open(dir + "types.gguf");
  EXPECT_EQ(file.version(), 3u);

  ASSERT_EQ(file.metadata().entries().size(), expected["metadata"].size());
  for (const GgufEntry& entry : file.metadata().entries()) {
    EXPECT_EQ(to_json(file.metadata(), entry), expected["metadata"][std::string(entry.key)]) << entry.key;
  }
  ASSERT_EQ(file.tensors().size(), expected["tensors"].size());
  for (std::size_t i = 0; i < file.tensors().size(); ++i) {
    const StoredTensor& tensor = file.tensors()[i];
    const Json& want = expected["tensors"][i];
    SCOPED_TRACE(tensor.name);
    EXPECT_EQ(tensor.name, want["name"]);
    EXPECT_EQ(name(tensor.dtype), want["dtype"]);
    EXPECT_EQ(Json(tensor.shape), want["shape"]);
    EXPECT_EQ(tensor.data.data() - file.files()[0].bytes().data(), want["offset"].get<std::ptrdiff_t>());
    EXPECT_EQ(tensor.data.size(), want["bytes"]);
    EXPECT_EQ(test::crc32(tensor.data), want["crc32"]);
    EXPECT_EQ(file.find(tensor.name), &tensor);
  }
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Gguf, AFileWithoutTensorsIsValid) {
  const auto bytes = GgufBuilder().set("general.architecture", "llama").bytes();
  const GgufFile file = GgufFile::parse(bytes, "vocab.gguf");
  EXPECT_TRUE(file.tensors().empty());
  EXPECT_EQ(file.metadata().required_string("general.architecture"), "llama");
  EXPECT_TRUE(file.files().empty());
}

TEST(Gguf, ReadsVersion2) {
  GgufBuilder builder;
  builder.version = 2;
  builder.tensor("w", DType::f32, {1, 2}, std::vector<float>{1, 2});
  const auto bytes = builder.bytes();
  EXPECT_EQ(GgufFile::parse(bytes, "v2").version(), 2u);
}

TEST(Gguf, HonoursTheAlignmentKey) {
  for (const std::uint32_t alignment : {1u, 8u, 64u, 4096u}) {
    GgufBuilder builder;
    builder.alignment = alignment;
    builder.set("general.alignment", alignment);
    builder.tensor("a", DType::f32, {3}, std::vector<float>{1, 2, 3});
    builder.tensor("b", DType::f32, {1}, std::vector<float>{4});
    const auto bytes = builder.bytes();
    const GgufFile file = GgufFile::parse(bytes, "aligned");
    EXPECT_EQ(file.alignment(), alignment);
    float b = 0;
    std::memcpy(&b, file.find("b")->data.data(), 4);
    EXPECT_EQ(b, 4.0f) << alignment;
    EXPECT_EQ((file.find("b")->data.data() - bytes.data()) % alignment, 0) << alignment;
  }
}

TEST(Gguf, SurvivesBeingMoved) {
  const test::TempDir dir;
  const auto path = GgufBuilder()
                        .set("key", "a value long enough not to sit inside a small string")
                        .tensor("w", DType::f32, {2}, std::vector<float>{1, 2})
                        .write(dir / "m.gguf");
  GgufFile first = GgufFile::open(path);
  const GgufFile second = std::move(first);
  EXPECT_EQ(second.metadata().required_string("key"), "a value long enough not to sit inside a small string");
  ASSERT_NE(second.find("w"), nullptr);
  EXPECT_EQ(second.find("w")->shape, std::vector<std::uint64_t>{2});
}

TEST(Gguf, TensorsMayLeaveGapsAndComeInAnyOrder) {
  GgufBuilder builder;
  builder.tensor("a", DType::f32, {8}, std::vector<float>(8, 1.0f));
  builder.tensor("b", DType::f32, {8}, std::vector<float>(8, 2.0f));
  builder.tensor("c", DType::f32, {8}, std::vector<float>(8, 3.0f));
  std::swap(builder.tensors[0].offset, builder.tensors[2].offset);
  const auto bytes = builder.bytes();
  const GgufFile file = GgufFile::parse(bytes, "order");
  float value = 0;
  std::memcpy(&value, file.find("a")->data.data(), 4);
  EXPECT_EQ(value, 3.0f);
}

}  // namespace
}  // namespace metal_candle
