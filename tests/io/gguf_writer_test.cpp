#include "io/gguf_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

std::vector<GgufEntry> entries_of(const GgufFile& file) {
  return {file.metadata().entries().begin(), file.metadata().entries().end()};
}

// The golden was written by Python's gguf: reading and writing it again must give the same bytes.
TEST(GgufWriter, WritesTheBytesPythonWrites) {
  for (const std::string golden :
       {"/io/types.gguf", "/models/gguf-q4_1/model.gguf", "/adapters/lora-gguf/adapter.gguf"}) {
    SCOPED_TRACE(golden);
    const TempDir dir;
    const GgufFile file = GgufFile::open(MC_GOLDEN_DIR + golden);
    write_gguf(dir / "out.gguf", entries_of(file), file.tensors());
    EXPECT_EQ(test::read_text(dir / "out.gguf"), test::read_text(MC_GOLDEN_DIR + golden));
  }
}

TEST(GgufWriter, AlignsTensorsAsTheMetadataSays) {
  const TempDir dir;
  const auto odd = test::encode(DType::bf16, std::vector<float>{1, 2, 3});
  const auto wide = test::encode(DType::f32, std::vector<float>{4, 5});
  const StoredTensor tensors[] = {{"odd", DType::bf16, {3}, odd}, {"wide", DType::f32, {2, 1}, wide}};
  for (const std::uint64_t alignment : {0, 8, 256}) {
    std::vector<GgufEntry> entries{{"general.architecture", GgufType::string, std::string_view("llama")}};
    const GgufEntry wanted{"general.alignment", GgufType::u32, alignment};
    if (alignment > 0) entries.push_back(wanted);
    write_gguf(dir / "m.gguf", entries, tensors);
    const GgufFile file = GgufFile::open(dir / "m.gguf");
    EXPECT_EQ(file.alignment(), alignment > 0 ? alignment : 32);
    for (const StoredTensor& tensor : tensors) {
      const StoredTensor* read = file.find(tensor.name);
      ASSERT_NE(read, nullptr);
      EXPECT_EQ(read->shape, tensor.shape);
      EXPECT_TRUE(std::ranges::equal(read->data, tensor.data));
    }
  }
}

TEST(GgufWriter, RefusesWhatTheFormatCannotHoldAndWritesNothing) {
  const TempDir dir;
  const std::vector<std::byte> data(20);
  const auto write = [&](std::vector<GgufEntry> entries, std::vector<StoredTensor> tensors) {
    write_gguf(dir / "m.gguf", entries, tensors);
  };
  constexpr auto kBad = ErrorCode::invalid_argument;
  EXPECT_MC_ERROR(write({}, {{"w", DType::boolean, {20}, data}}), kBad, "m.gguf", "\"w\"", "bool");
  EXPECT_MC_ERROR(write({}, {{"w", DType::f32, {4}, data}}), kBad, "\"w\"", "20 bytes");
  EXPECT_MC_ERROR(write({}, {{"w", DType::f32, {0}, {}}}), kBad, "\"w\"", "0 bytes");
  EXPECT_MC_ERROR(write({}, {{"w", DType::f32, {std::uint64_t{1} << 62, 4}, data}}), kBad, "\"w\"");
  EXPECT_MC_ERROR(write({}, {{"w", DType::q4_1, {2, 16}, data}}), kBad, "\"w\"", "20 bytes");  // half blocks
  EXPECT_MC_ERROR(write({}, {{"w", DType::f32, {}, data}}), kBad, "1 to 4 dimensions");
  EXPECT_MC_ERROR(write({}, {{"w", DType::f32, {5, 1, 1, 1, 1}, data}}), kBad, "1 to 4 dimensions");
  EXPECT_MC_ERROR(write({}, {{"w", DType::f32, {5}, data}, {"w", DType::f32, {5}, data}}), kBad, "twice");
  EXPECT_MC_ERROR(write({}, {{std::string(64, 'n'), DType::f32, {5}, data}}), kBad, "63 bytes");
  EXPECT_MC_ERROR(write({{"", GgufType::u8, std::uint64_t{1}}}, {}), kBad, "metadata key \"\"");
  EXPECT_MC_ERROR(write({{"a", GgufType::u8, std::uint64_t{1}}, {"a", GgufType::u8, std::uint64_t{1}}}, {}),
                  kBad, "\"a\"", "twice");
  EXPECT_MC_ERROR(write({{"a", GgufType::u8, std::uint64_t{256}}}, {}), kBad, "\"a\"", "no u8");
  EXPECT_MC_ERROR(write({{"a", GgufType::i8, std::int64_t{-129}}}, {}), kBad, "\"a\"", "no i8");
  EXPECT_MC_ERROR(write({{"a", GgufType::f32, std::uint64_t{1}}}, {}), kBad, "\"a\"", "f32");
  EXPECT_MC_ERROR(write({{"general.alignment", GgufType::u32, std::uint64_t{12}}}, {}), kBad, "power of two");
  EXPECT_FALSE(std::filesystem::exists(dir / "m.gguf"));
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace metal_candle
