#include "io/safetensors_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "io/safetensors.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/quantize.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

// The golden was written by Hugging Face's package: reading and writing it again must give the same bytes.
TEST(SafetensorsWriter, WritesTheBytesPythonWrites) {
  const TempDir dir;
  const std::string golden = MC_GOLDEN_DIR "/io/types.safetensors";
  const SafetensorsModel model = SafetensorsModel::open(golden);
  std::vector<StoredTensor> shuffled(model.tensors().begin(), model.tensors().end());
  std::ranges::sort(shuffled, {}, &StoredTensor::name);
  write_safetensors(dir / "out.safetensors", shuffled, model.metadata());
  EXPECT_EQ(test::read_text(dir / "out.safetensors"), test::read_text(golden));
}

TEST(SafetensorsWriter, RoundTripsBf16AndAlignsEveryTensor) {
  const TempDir dir;
  const auto odd = test::encode(DType::bf16, std::vector<float>{1, 2, 3});
  const auto wide = test::encode(DType::f32, std::vector<float>{4, 5});
  const StoredTensor tensors[] = {{"odd", DType::bf16, {3}, odd}, {"wide", DType::f32, {2, 1}, wide}};
  write_safetensors(dir / "m.safetensors", tensors);
  const SafetensorsModel model = SafetensorsModel::open(dir / "m.safetensors");
  EXPECT_TRUE(model.metadata().empty());
  for (const StoredTensor& tensor : tensors) {
    const StoredTensor* read = model.find(tensor.name);
    ASSERT_NE(read, nullptr);
    EXPECT_EQ(read->dtype, tensor.dtype);
    EXPECT_EQ(read->shape, tensor.shape);
    EXPECT_TRUE(std::ranges::equal(read->data, tensor.data));
    const auto offset = read->data.data() - model.files()[0].bytes().data();
    EXPECT_EQ(static_cast<std::size_t>(offset) % block_bytes(tensor.dtype), 0u);
  }
}

TEST(SafetensorsWriter, RefusesWhatTheFormatCannotHoldAndWritesNothing) {
  const TempDir dir;
  const std::vector<std::byte> data(20);
  const auto write = [&](std::vector<StoredTensor> tensors) {
    write_safetensors(dir / "m.safetensors", tensors);
  };
  constexpr auto kBad = ErrorCode::invalid_argument;
  EXPECT_MC_ERROR(write({{"q", DType::q4_1, {32}, data}}), kBad, "m.safetensors", "\"q\"", "q4_1");
  EXPECT_MC_ERROR(write({{"w", DType::f32, {4}, data}}), kBad, "\"w\"", "20 bytes");
  EXPECT_MC_ERROR(write({{"w", DType::f32, {std::uint64_t{1} << 62, 4}, data}}), kBad, "\"w\"");
  EXPECT_MC_ERROR(write({{"w", DType::f32, {5}, data}, {"w", DType::f32, {5}, data}}), kBad, "\"w\"",
                  "twice");
  EXPECT_MC_ERROR(write({{"__metadata__", DType::f32, {5}, data}}), kBad, "reserves");
  EXPECT_MC_ERROR(write({{"\xff", DType::f32, {5}, data}}), kBad, "UTF-8");
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

}  // namespace
}  // namespace metal_candle
