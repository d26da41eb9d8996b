#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <set>

#include "core/checked.h"
#include "core/json.h"
#include "io/fail.h"
#include "io/quote.h"

namespace metal_candle {
namespace {

// The reference implementation's own limit.
constexpr std::uint64_t kLargestHeader = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

struct NamedType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<NamedType, 13> kTypes{{{"F32", DType::f32},
                                            {"F16", DType::f16},
                                            {"BF16", DType::bf16},
                                            {"F64", DType::f64},
                                            {"I8", DType::i8},
                                            {"I16", DType::i16},
                                            {"I32", DType::i32},
                                            {"I64", DType::i64},
                                            {"U8", DType::u8},
                                            {"U16", DType::u16},
                                            {"U32", DType::u32},
                                            {"U64", DType::u64},
                                            {"BOOL", DType::boolean}}};

/// The JSON text of the header and, behind it, the data.
struct Parts {
  std::string_view header;
  std::span<const std::byte> data;
};

Parts split(std::span<const std::byte> bytes, std::string_view file) {
  static_assert(std::endian::native == std::endian::little, "model files are read in place, little-endian");
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length)) fail_file(file, "is not a safetensors file: it has fewer than 8 bytes");
  std::memcpy(&length, bytes.data(), sizeof(length));
  const auto rest = bytes.subspan(sizeof(length));
  if (length > kLargestHeader) {
    fail_file(file, "is not a safetensors file: its header would have " + std::to_string(length) +
                        " bytes; at most 100 MB are allowed");
  }
  if (length > rest.size()) {
    fail_file(file, "ends inside its header of " + std::to_string(length) +
                        " bytes; it is truncated or corrupt, download it again");
  }
  const std::string_view header(reinterpret_cast<const char*>(rest.data()), static_cast<std::size_t>(length));
  if (!header.starts_with('{'))
    fail_file(file, "is not a safetensors file: its header does not begin with '{'");
  return {header, rest.subspan(header.size())};
}

/// A field of a tensor's description that must be there.
const Json& field(const Json& info, const char* key, std::string_view tensor, std::string_view file) {
  const auto it = info.find(key);
  if (it == info.end()) fail_tensor(file, tensor, "has no \"" + std::string(key) + "\" in the header");
  return *it;
}

std::vector<std::uint64_t> read_integers(const Json& values, const char* key, std::string_view tensor,
                                         std::string_view file) {
  std::vector<std::uint64_t> out;
  const auto is_size = [](const Json& value) { return value.is_number_unsigned(); };
  if (!values.is_array() || !std::ranges::all_of(values, is_size)) {
    fail_tensor(file, tensor, "needs a list of non-negative integers as \"" + std::string(key) + "\"");
  }
  for (const Json& value : values) out.push_back(value.get<std::uint64_t>());
  return out;
}

struct Record {
  StoredTensor tensor;
  std::uint64_t begin = 0, end = 0;
};

Record read_record(const std::string& name, const Json& info, std::string_view file) {
  if (!info.is_object()) fail_tensor(file, name, "is not described by a JSON object");
  Record record;
  record.tensor.name = name;
  record.tensor.shape = read_integers(field(info, "shape", name, file), "shape", name, file);
  const Json& dtype = field(info, "dtype", name, file);
  if (!dtype.is_string()) fail_tensor(file, name, "needs a string as \"dtype\"");
  const auto type = std::ranges::find(kTypes, dtype.get_ref<const std::string&>(), &NamedType::name);
  if (type == kTypes.end()) {
    fail_tensor(file, name,
                "has dtype " + quote(dtype.get_ref<const std::string&>()) +
                    ", which is not supported; use F32, F16, BF16, F64, I8 to I64, U8 to U64 or BOOL",
                ErrorCode::unsupported);
  }
  record.tensor.dtype = type->dtype;
  const auto offsets = read_integers(field(info, "data_offsets", name, file), "data_offsets", name, file);
  if (offsets.size() != 2 || offsets[0] > offsets[1]) {
    fail_tensor(file, name, "needs [begin, end] with begin <= end as \"data_offsets\"");
  }
  record.begin = offsets[0];
  record.end = offsets[1];

  std::optional<std::uint64_t> elements = 1;
  for (const std::uint64_t n : record.tensor.shape) {
    if (elements) elements = checked_mul(*elements, n);
  }
  const auto size = elements ? byte_size(type->dtype, *elements) : std::nullopt;
  if (!size) fail_tensor(file, name, "has a shape whose size overflows 64 bits");
  if (*size != record.end - record.begin) {
    fail_tensor(file, name,
                "takes " + std::to_string(*size) + " bytes by shape and dtype, but its offsets span " +
                    std::to_string(record.end - record.begin));
  }
  return record;
}

/// The format allows neither holes nor overlaps: tensors follow each other from 0 to the end of the data.
void place(std::vector<Record>& records, std::span<const std::byte> data, std::string_view file) {
  std::ranges::sort(records, {}, [](const Record& r) { return std::pair(r.begin, r.end); });
  std::uint64_t expected = 0;
  for (Record& record : records) {
    const std::string& name = record.tensor.name;
    if (record.end > data.size()) {
      fail_tensor(file, name,
                  "ends at byte " + std::to_string(record.end) + " of only " + std::to_string(data.size()) +
                      " bytes of data; the file is truncated or corrupt, download it again");
    }
    if (record.begin < expected) fail_tensor(file, name, "overlaps the tensor before it");
    if (record.begin > expected) fail_tensor(file, name, "leaves a gap to the tensor before it");
    expected = record.end;
    record.tensor.data = data.subspan(static_cast<std::size_t>(record.begin),
                                      static_cast<std::size_t>(record.end - record.begin));
  }
  if (expected != data.size()) {
    fail_file(file, "has " + std::to_string(data.size() - expected) +
                        " bytes after its last tensor; it is corrupt");
  }
}

void read_metadata(const Json& values, std::map<std::string, std::string>& out, std::string_view file) {
  if (values.is_null()) return;  // MLX writes it when there is none, and the reference reads it
  if (!values.is_object()) fail_file(file, "\"__metadata__\" is not a JSON object");
  for (const auto& [key, value] : values.items()) {
    if (!value.is_string()) fail_file(file, "\"__metadata__\" key " + quote(key) + " is not a string");
    out.emplace(key, value.get<std::string>());
  }
}

/// A shard lies beside its index: anything but a plain file name could reach out of the directory.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

bool looks_like_safetensors(std::span<const std::byte> bytes) noexcept {
  return bytes.size() > 8 && bytes[8] == std::byte{'{'} &&
         std::all_of(bytes.begin() + 4, bytes.begin() + 8, [](std::byte b) { return b == std::byte{0}; });
}

SafetensorsContent parse_safetensors(std::span<const std::byte> bytes, std::string_view name) {
  const Parts parts = split(bytes, name);
  // Three levels: the header, a tensor, its shape.
  const Json header =
      parse_json(parts.header, quote_path(name) + ": header", {.depth = 3, .unique_keys = true});
  SafetensorsContent content;
  std::vector<Record> records;
  for (const auto& [key, value] : header.items()) {
    if (key == kMetadataKey) {
      read_metadata(value, content.metadata, name);
    } else {
      records.push_back(read_record(key, value, name));
    }
  }
  place(records, parts.data, name);
  content.tensors.reserve(records.size());
  for (Record& record : records) content.tensors.push_back(std::move(record.tensor));
  return content;
}

SafetensorsModel SafetensorsModel::open(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return open(MappedFile::open(path));
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (std::filesystem::exists(path / name, ignored)) return open(path / name);
  }
  fail_file(path.native(),
            "holds neither model.safetensors nor model.safetensors.index.json; give a model directory",
            ErrorCode::not_found);
}

SafetensorsModel SafetensorsModel::open(MappedFile file) {
  SafetensorsModel model;
  model.directory_ = file.path().parent_path();
  const bool is_index = !looks_like_safetensors(file.bytes()) && text_of(file).starts_with('{');
  if (is_index) {
    model.add_shards(file);
  } else {
    model.add(std::move(file));
  }
  return model;
}

void SafetensorsModel::add_shards(const MappedFile& file) {
  const std::string& name = file.path().native();
  const Json index = parse_json(text_of(file), quote_path(name), {.unique_keys = true});
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    fail_file(name, "has no \"weight_map\" of tensors to shards");
  }
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : weight_map->items()) {
    if (!shard.is_string()) fail_tensor(name, tensor, "is not mapped to a file name");
    const auto& shard_name = shard.get_ref<const std::string&>();
    if (!is_plain_name(shard_name)) {
      fail_tensor(name, tensor,
                  "is mapped to " + quote(shard_name) + ", which is not a file beside the index");
    }
    shards.insert(shard_name);
  }

  for (const std::string& shard : shards) add(MappedFile::open(directory_ / shard));
  for (const auto& [tensor, shard] : weight_map->items()) {
    const StoredTensor* found = find(tensor);
    if (found == nullptr) {
      fail_tensor(name, tensor, "is not in its shard " + quote(shard.get_ref<const std::string&>()));
    }
    const auto owner =
        std::ranges::find_if(files_, [&](const MappedFile& f) { return f.contains(found->data); });
    if (!found->data.empty() && owner->path().filename() != shard.get_ref<const std::string&>()) {
      fail_tensor(name, tensor,
                  "is mapped to " + quote(shard.get_ref<const std::string&>()) + " but lies in " +
                      quote(owner->path().filename().native()));
    }
  }
}

void SafetensorsModel::add(MappedFile file) {
  SafetensorsContent content = parse_safetensors(file.bytes(), file.path().native());
  for (StoredTensor& tensor : content.tensors) {
    if (!index_.emplace(tensor.name, tensors_.size()).second) {
      fail_tensor(file.path().native(), tensor.name, "is in another shard, too");
    }
    tensors_.push_back(std::move(tensor));
  }
  metadata_.merge(content.metadata);
  files_.push_back(std::move(file));
}

const StoredTensor* SafetensorsModel::find(std::string_view tensor) const noexcept {
  const auto it = index_.find(tensor);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

}  // namespace metal_candle
