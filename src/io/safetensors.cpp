#include "io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "core/json.h"
#include "io/fail.h"
#include "io/quote.h"
#include "io/safetensors_header.h"

namespace metal_candle {
namespace {

// The reference implementation's own limit.
constexpr std::uint64_t kLargestHeader = 100'000'000;

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

using Record = SafetensorsHeader::Tensor;

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
  SafetensorsHeader header = parse_safetensors_header(parts.header, name);
  place(header.tensors, parts.data, name);
  SafetensorsContent content;
  content.metadata = std::move(header.metadata);
  content.tensors.reserve(header.tensors.size());
  for (Record& record : header.tensors) content.tensors.push_back(std::move(record.tensor));
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
