#include "io/weight_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/safetensors_writer.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/gguf_builder.h"
#include "support/safetensors_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::GgufBuilder;
using test::TempDir;

const std::vector<float> kOnes(64, 1.0f);

TEST(WeightStore, TellsFormatsApartByContentNotByName) {
  const TempDir dir;
  GgufBuilder()
      .set("general.architecture", "llama")
      .tensor("w", DType::q8_0, {2, 32}, kOnes)
      .write(dir / "model.bin");
  const WeightStore gguf = WeightStore::open(dir / "model.bin");
  ASSERT_NE(gguf.gguf(), nullptr);
  EXPECT_EQ(gguf.safetensors(), nullptr);
  EXPECT_EQ(gguf.gguf()->metadata().required_string("general.architecture"), "llama");
  EXPECT_EQ(gguf.path(), dir / "model.bin");
  EXPECT_THAT(gguf.names(), testing::ElementsAre("w"));
  EXPECT_EQ(gguf.total_bytes(), 68u);

  const auto data = test::encode(DType::f32, kOnes);
  const StoredTensor tensor{"v", DType::f32, {64}, data};
  write_safetensors(dir / "model.gguf", {&tensor, 1});
  const WeightStore safetensors = WeightStore::open(dir / "model.gguf");
  EXPECT_EQ(safetensors.gguf(), nullptr);
  ASSERT_NE(safetensors.safetensors(), nullptr);
  EXPECT_EQ(safetensors.safetensors()->directory(), dir.path());
  EXPECT_EQ(safetensors.total_bytes(), 256u);
}

// A header length may spell another format's first bytes: 123 is '{', 640 begins as a pickle does.
TEST(WeightStore, AHeaderLengthIsNotMistakenForAMagicNumber) {
  const TempDir dir;
  for (const std::size_t length : {123u, 640u}) {
    std::string header = test::safetensors_header({test::safetensors_entry("w", "U8", "[1]", 0, 1)});
    header.resize(length, ' ');
    const WeightStore store = WeightStore::open(dir.write("m", test::safetensors_bytes(header, 1)));
    EXPECT_NE(store.find("w"), nullptr) << length;
  }
}

TEST(WeightStore, OpensDirectoriesAndIndexes) {
  const TempDir dir;
  const auto shard = test::safetensors_header({test::safetensors_entry("w", "U8", "[1]", 0, 1)});
  dir.write("s.safetensors", test::safetensors_bytes(shard, 1));
  dir.write("model.safetensors.index.json", R"({"weight_map":{"w":"s.safetensors"}})");
  EXPECT_NE(WeightStore::open(dir.path()).find("w"), nullptr);
  EXPECT_NE(WeightStore::open(dir / "model.safetensors.index.json").find("w"), nullptr);
}

TEST(WeightStore, FindsAndRequires) {
  const TempDir dir;
  const WeightStore store =
      WeightStore::open(GgufBuilder().tensor("w", DType::f32, {8, 8}, kOnes).write(dir / "m.gguf"));
  EXPECT_EQ(store.find("absent"), nullptr);
  EXPECT_EQ(&store.required("w"), store.find("w"));
  EXPECT_MC_ERROR(store.required("absent"), ErrorCode::malformed_file, "m.gguf", "\"absent\" is missing");
}

TEST(WeightStore, ReleasedTensorsCanBeReadAgain) {
  const TempDir dir;
  const std::vector<float> values(16384, 3.0f);
  const auto data = test::encode(DType::f32, values);
  const WeightStore gguf =
      WeightStore::open(GgufBuilder().tensor("w", DType::f32, {16384}, values).write(dir / "m.gguf"));
  const StoredTensor tensor{"w", DType::f32, {16384}, data};
  write_safetensors(dir / "m.safetensors", {&tensor, 1});
  const WeightStore safetensors = WeightStore::open(dir / "m.safetensors");
  for (const WeightStore* store : {&gguf, &safetensors}) {
    const StoredTensor& w = store->required("w");
    store->will_need(w);
    ASSERT_TRUE(std::ranges::equal(w.data, data));
    store->release(w);
    EXPECT_TRUE(std::ranges::equal(w.data, data));
  }
}

TEST(WeightStore, BadInputIsATypedError) {
  const TempDir dir;
  EXPECT_MC_ERROR(WeightStore::open(dir / "absent"), ErrorCode::not_found, "absent");
  EXPECT_MC_ERROR(WeightStore::open(dir.write("empty", "")), ErrorCode::malformed_file, "empty");
  EXPECT_MC_ERROR(WeightStore::open(dir.path()), ErrorCode::not_found, "model.safetensors");
  EXPECT_MC_ERROR(WeightStore::open(dir.write("text", "hello, this is no model")), ErrorCode::malformed_file,
                  "text", "neither GGUF nor safetensors");
  EXPECT_MC_ERROR(WeightStore::open(dir.write("json", "{\"a\": 1, \"b\": 22222}")), ErrorCode::malformed_file,
                  "json", "weight_map");
  EXPECT_MC_ERROR(WeightStore::open(dir.write("zip.bin", "PK\x03\x04 and more of it")),
                  ErrorCode::unsupported, "zip.bin", "pickle");
  EXPECT_MC_ERROR(WeightStore::open(dir.write("old.bin", "\x80\x02} and more of it")), ErrorCode::unsupported,
                  "old.bin", "pickle");
}

}  // namespace
}  // namespace metal_candle
