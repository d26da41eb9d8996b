#include "io/safetensors.h"

#include <gtest/gtest.h>

#include "core/json.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/safetensors_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::safetensors_bytes;
using test::safetensors_entry;
using test::safetensors_header;
using test::TempDir;

// Golden: written and read back by Hugging Face's package (scripts/golden/safetensors_files.py).
TEST(Safetensors, ReadsWhatPythonWroteAsPythonReadsIt) {
  const std::string dir = MC_GOLDEN_DIR "/io/";
  const Json expected = parse_json(test::read_text(dir + "types_st.json"), "types_st.json");
  const SafetensorsModel model = SafetensorsModel::open(dir + "types.safetensors");
  EXPECT_EQ(Json(model.metadata()), expected["metadata"]);
  EXPECT_EQ(model.directory(), MC_GOLDEN_DIR "/io");
  ASSERT_EQ(model.tensors().size(), expected["tensors"].size());
  for (const Json& want : expected["tensors"]) {
    SCOPED_TRACE(want["name"].get<std::string>());
    const StoredTensor* tensor = model.find(want["name"].get<std::string>());
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(name(tensor->dtype), want["dtype"]);
    EXPECT_EQ(Json(tensor->shape), want["shape"]);
    EXPECT_EQ(test::crc32(tensor->data), want["crc32"]);
  }
  EXPECT_EQ(model.find("absent"), nullptr);
}

TEST(Safetensors, AcceptsNoTensorsAndAPaddedHeader) {
  EXPECT_TRUE(parse_safetensors(safetensors_bytes("{}", 0), "empty").tensors.empty());
  const auto padded =
      safetensors_bytes(safetensors_header({safetensors_entry("w", "U8", "[3]", 0, 3)}) + "     ", 3);
  EXPECT_EQ(parse_safetensors(padded, "padded").tensors.size(), 1u);
}

TEST(Safetensors, StepsOverKeysOfATensorThatNobodyReads) {
  const auto content = parse_safetensors(
      safetensors_bytes(R"({"t":{"x":[1,-1,1.5,"a",null,true],"shape":[2,4],"y":{"shape":9},"z":"F32",)"
                        R"("dtype":"U8","data_offsets":[0,8]}})",
                        8),
      "more");
  ASSERT_EQ(content.tensors.size(), 1u);
  EXPECT_EQ(content.tensors[0].shape, (std::vector<std::uint64_t>{2, 4}));
  EXPECT_EQ(content.tensors[0].dtype, DType::u8);
}

// Two shards and their index, as transformers' save_pretrained lays them out.
struct Sharded {
  TempDir dir;
  std::string index =
      R"({"metadata":{"total_size":3},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}})";

  Sharded() {
    dir.write("model-1.safetensors",
              safetensors_bytes(safetensors_header({safetensors_entry("a", "U8", "[1]", 0, 1)}), 1));
    dir.write("model-2.safetensors",
              safetensors_bytes(safetensors_header({"\"__metadata__\":{\"format\":\"mlx\"}",
                                                    safetensors_entry("b", "U8", "[2]", 0, 2)}),
                                2));
  }
  SafetensorsModel open() const {
    dir.write("model.safetensors.index.json", index);
    return SafetensorsModel::open(dir.path());
  }
};

TEST(Safetensors, MetadataMayBeNullAsMlxWritesIt) {
  const TempDir dir;
  const auto file = dir.write(
      "a.safetensors",
      safetensors_bytes(
          safetensors_header({"\"__metadata__\":null", safetensors_entry("a", "U8", "[1]", 0, 1)}), 1));
  const SafetensorsModel model = SafetensorsModel::open(file);
  EXPECT_NE(model.find("a"), nullptr);
  EXPECT_TRUE(model.metadata().empty());
}

TEST(Safetensors, OpensADirectoryOfShards) {
  const Sharded sharded;
  const SafetensorsModel model = sharded.open();
  EXPECT_EQ(model.files().size(), 2u);
  EXPECT_EQ(model.directory(), sharded.dir.path());
  ASSERT_NE(model.find("a"), nullptr);
  ASSERT_NE(model.find("b"), nullptr);
  EXPECT_EQ(model.find("b")->data.size(), 2u);
  EXPECT_EQ(model.metadata().at("format"), "mlx");
  EXPECT_EQ(SafetensorsModel::open(sharded.dir / "model.safetensors.index.json").tensors().size(), 2u);
}

TEST(Safetensors, TheSingleFileWinsOverAnIndex) {
  const Sharded sharded;
  sharded.dir.write("model.safetensors",
                    safetensors_bytes(safetensors_header({safetensors_entry("c", "U8", "[1]", 0, 1)}), 1));
  EXPECT_NE(sharded.open().find("c"), nullptr);
}

TEST(Safetensors, TheIndexMustAgreeWithItsShards) {
  constexpr auto kMalformed = ErrorCode::malformed_file;
  Sharded sharded;
  const auto with_map = [&](const std::string& map) {
    sharded.index = "{\"weight_map\":" + map + "}";
    return sharded.open();
  };
  EXPECT_MC_ERROR(with_map(R"({"a":"model-1.safetensors","z":"model-2.safetensors"})"), kMalformed,
                  "index.json", "\"z\"", "not in its shard \"model-2.safetensors\"");
  EXPECT_MC_ERROR(with_map(R"({"a":"model-2.safetensors","b":"model-1.safetensors"})"), kMalformed, "\"a\"",
                  "lies in \"model-1.safetensors\"");
  EXPECT_MC_ERROR(with_map(R"({"a":"model-3.safetensors"})"), ErrorCode::not_found, "model-3.safetensors");
  EXPECT_MC_ERROR(with_map(R"({"a":7})"), kMalformed, "\"a\"", "file name");
  EXPECT_MC_ERROR(with_map(R"({})"), kMalformed, "weight_map");
  EXPECT_MC_ERROR(with_map(R"([])"), kMalformed, "weight_map");
  EXPECT_MC_ERROR(with_map(R"({"a":"model-1.safetensors","a":"model-2.safetensors"})"), kMalformed,
                  "occurs twice");
  for (const char* name :
       {"../model-1.safetensors", "/etc/passwd", "sub/x", "..", ".", "", "a\\\\b", "a\\u0000b"}) {
    EXPECT_MC_ERROR(with_map("{\"a\":\"" + std::string(name) + "\"}"), kMalformed, "\"a\"",
                    "beside the index");
  }
  sharded.dir.write("model-2.safetensors",
                    safetensors_bytes(safetensors_header({safetensors_entry("a", "U8", "[1]", 0, 1)}), 1));
  EXPECT_MC_ERROR(with_map(R"({"a":"model-1.safetensors","b":"model-2.safetensors"})"), kMalformed, "\"a\"",
                  "another shard");
  sharded.index = "{\"weight_map\":";
  EXPECT_MC_ERROR(sharded.open(), kMalformed, "index.json", "invalid JSON");
}

TEST(Safetensors, ADirectoryWithoutWeightsIsNotFound) {
  const TempDir dir;
  EXPECT_MC_ERROR(SafetensorsModel::open(dir.path()), ErrorCode::not_found, "neither model.safetensors nor");
  EXPECT_MC_ERROR(SafetensorsModel::open(dir / "absent"), ErrorCode::not_found, "absent");
}

}  // namespace
}  // namespace metal_candle
