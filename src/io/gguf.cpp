#include "io/gguf.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "core/checked.h"
#include "io/byte_reader.h"
#include "io/fail.h"
#include "io/gguf_types.h"

namespace metal_candle {
namespace {

constexpr std::array<std::byte, 4> kMagic{std::byte{'G'}, std::byte{'G'}, std::byte{'U'}, std::byte{'F'}};
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint32_t kMostDimensions = 4;

DType read_dtype(ByteReader& reader, std::string_view tensor) {
  const auto number = reader.read<std::uint32_t>("the type of tensor", tensor);
  const GgufStorage type = gguf_storage(number);
  if (type.dtype) return *type.dtype;
  const std::string known = type.name.empty() ? "" : " (" + std::string(type.name) + ")";
  fail_tensor(
      reader.file(), tensor,
      "has ggml type " + std::to_string(number) + known +
          ", which is not supported; use F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 or Q2_K to Q6_K",
      ErrorCode::unsupported);
}

/// One record of the tensor directory: the tensor without its data, and where that lies.
struct Record {
  StoredTensor tensor;
  std::string_view name;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

Record read_record(ByteReader& reader) {
  Record record;
  const std::string_view name = record.name = reader.string("a tensor's name");
  record.tensor.name = name;
  const auto dimensions = reader.read<std::uint32_t>("the shape of tensor", name);
  if (dimensions == 0 || dimensions > kMostDimensions) {
    fail_tensor(reader.file(), name, "has " + std::to_string(dimensions) + " dimensions; 1 to 4 are allowed");
  }
  std::vector<std::uint64_t>& shape = record.tensor.shape;
  shape.resize(dimensions);
  std::optional<std::uint64_t> elements = 1;
  for (auto it = shape.rbegin(); it != shape.rend(); ++it) {  // the file lists the innermost dimension first
    *it = reader.read<std::uint64_t>("the shape of tensor", name);
    if (*it == 0) fail_tensor(reader.file(), name, "has a dimension of 0");
    if (elements) elements = checked_mul(*elements, *it);
  }
  const DType dtype = record.tensor.dtype = read_dtype(reader, name);
  if (shape.back() % block_elements(dtype) != 0) {
    fail_tensor(reader.file(), name,
                "has rows of " + std::to_string(shape.back()) + " elements, not a multiple of the " +
                    std::to_string(block_elements(dtype)) + " in a " +
                    std::string(metal_candle::name(dtype)) + " block");
  }
  const auto size = elements ? byte_size(dtype, *elements) : std::nullopt;
  if (!size) fail_tensor(reader.file(), name, "has a shape whose size overflows 64 bits");
  record.size = *size;
  record.offset = reader.read<std::uint64_t>("the offset of tensor", name);
  return record;
}

void check_no_overlap(std::span<const Record> records, std::string_view file) {
  std::vector<std::size_t> order(records.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return records[a].offset < records[b].offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const Record& before = records[order[i - 1]];
    const Record& after = records[order[i]];
    if (after.offset - before.offset < before.size) {
      fail_tensor(file, after.name, "overlaps tensor " + quote(before.name));
    }
  }
}

}  // namespace

GgufFile GgufFile::open(MappedFile mapping) {
  GgufFile file;
  file.name_ = mapping.path().native();
  file.mapping_ = std::move(mapping);
  file.read(file.mapping_->bytes());
  return file;
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string name) {
  GgufFile file;
  file.name_ = std::move(name);
  file.read(bytes);
  return file;
}

bool GgufFile::has_magic(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= kMagic.size() && std::equal(kMagic.begin(), kMagic.end(), bytes.begin());
}

const StoredTensor* GgufFile::find(std::string_view tensor) const noexcept {
  const auto it = index_.find(tensor);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

void GgufFile::read(std::span<const std::byte> bytes) {
  if (!has_magic(bytes)) fail_file(name_, "is not a GGUF file: it does not begin with \"GGUF\"");
  ByteReader reader(bytes, name_);
  reader.take(kMagic.size(), "the magic number");
  version_ = reader.read<std::uint32_t>("the version");
  if (version_ != 0 && (version_ & 0xffff) == 0) {
    fail_file(name_, "is a big-endian GGUF file, which is not supported; convert it to little-endian",
              ErrorCode::unsupported);
  }
  if (version_ != 2 && version_ != 3) {
    fail_file(name_, "has GGUF version " + std::to_string(version_) + "; versions 2 and 3 are supported",
              ErrorCode::unsupported);
  }
  const auto tensor_count = reader.read<std::uint64_t>("the tensor count");
  const auto entry_count = reader.read<std::uint64_t>("the metadata count");
  // Smallest records: key of 1 byte + u8 value; empty name, 1 dimension.
  constexpr std::uint64_t kSmallestEntry = 8 + 1 + 4 + 1;
  constexpr std::uint64_t kSmallestTensor = 8 + 4 + 8 + 4 + 8;
  if (entry_count > reader.remaining() / kSmallestEntry ||
      tensor_count > reader.remaining() / kSmallestTensor) {
    fail_file(name_, "claims " + std::to_string(entry_count) + " metadata keys and " +
                         std::to_string(tensor_count) + " tensors, more than its " +
                         std::to_string(bytes.size()) + " bytes can hold; it is truncated or corrupt");
  }
  metadata_ = GgufMetadata::read(reader, entry_count);
  alignment_ = metadata_.optional_u64("general.alignment").value_or(kDefaultAlignment);
  if (!std::has_single_bit(alignment_)) {
    fail_file(name_,
              "metadata key \"general.alignment\" must be a power of two, not " + std::to_string(alignment_));
  }
  read_tensors(reader, tensor_count, bytes);
}

void GgufFile::read_tensors(ByteReader& reader, std::uint64_t count, std::span<const std::byte> bytes) {
  std::vector<Record> records;
  for (std::uint64_t i = 0; i < count; ++i) {
    records.push_back(read_record(reader));
    const std::string_view tensor = records.back().name;
    if (!index_.emplace(tensor, i).second) fail_tensor(name_, tensor, "occurs twice");
  }
  if (records.empty()) return;

  const auto padded = checked_add<std::uint64_t>(reader.position(), alignment_ - 1);
  const std::uint64_t data_begin = padded ? *padded / alignment_ * alignment_ : bytes.size();
  if (data_begin > bytes.size())
    fail_file(name_, "ends before its tensor data; it is truncated, download it again");
  const auto data = bytes.subspan(static_cast<std::size_t>(data_begin));
  for (Record& record : records) {
    if (record.offset % alignment_ != 0) {
      fail_tensor(name_, record.name,
                  "lies at offset " + std::to_string(record.offset) + ", not a multiple of the alignment " +
                      std::to_string(alignment_));
    }
    if (record.offset > data.size() || record.size > data.size() - record.offset) {
      fail_tensor(name_, record.name,
                  "reaches past the end of the file (" + std::to_string(record.size) + " bytes at offset " +
                      std::to_string(record.offset) + " of " + std::to_string(data.size()) +
                      "); it is truncated or corrupt, download it again");
    }
    record.tensor.data =
        data.subspan(static_cast<std::size_t>(record.offset), static_cast<std::size_t>(record.size));
  }
  check_no_overlap(records, name_);
  tensors_.reserve(records.size());
  for (Record& record : records) tensors_.push_back(std::move(record.tensor));
}

}  // namespace metal_candle
