#include "io/weight_store.h"

#include <algorithm>
#include <utility>

#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

bool begins_with(std::span<const std::byte> bytes, std::string_view text) {
  return bytes.size() >= text.size() &&
         std::equal(text.begin(), text.end(), bytes.begin(),
                    [](char c, std::byte b) { return static_cast<std::byte>(c) == b; });
}

}  // namespace

WeightStore WeightStore::open(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return {path, SafetensorsModel::open(path)};
  MappedFile file = MappedFile::open(path);
  if (GgufFile::has_magic(file.bytes())) return {path, GgufFile::open(std::move(file))};
  if (looks_like_safetensors(file.bytes()) || begins_with(file.bytes(), "{")) {
    return {path, SafetensorsModel::open(std::move(file))};
  }
  if (begins_with(file.bytes(), "PK\x03\x04") || begins_with(file.bytes(), "\x80\x02")) {
    throw Error(
        ErrorCode::unsupported,
        quote_path(path) + ": is a PyTorch pickle, which can run code when read; convert it to safetensors");
  }
  throw Error(ErrorCode::malformed_file,
              quote_path(path) +
                  ": is neither GGUF nor safetensors; give a .gguf or .safetensors file, or a directory");
}

std::span<const MappedFile> WeightStore::files() const noexcept {
  return std::visit([](const auto& model) { return model.files(); }, files_);
}

std::span<const StoredTensor> WeightStore::tensors() const noexcept {
  return std::visit([](const auto& file) { return file.tensors(); }, files_);
}

std::vector<std::string_view> WeightStore::names() const {
  std::vector<std::string_view> out;
  for (const StoredTensor& tensor : tensors()) out.push_back(tensor.name);
  return out;
}

const StoredTensor* WeightStore::find(std::string_view tensor) const noexcept {
  return std::visit([&](const auto& file) { return file.find(tensor); }, files_);
}

const StoredTensor& WeightStore::required(std::string_view tensor) const {
  if (const StoredTensor* found = find(tensor)) return *found;
  throw Error(ErrorCode::malformed_file,
              quote_path(path_) + ": tensor " + quote(tensor) +
                  " is missing; the file is incomplete or of another architecture");
}

std::uint64_t WeightStore::total_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const StoredTensor& tensor : tensors()) total += tensor.data.size();
  return total;
}

void WeightStore::release(const StoredTensor& tensor) const noexcept {
  if (const MappedFile* file = mapping_of(tensor)) file->release(tensor.data);
}

void WeightStore::will_need(const StoredTensor& tensor) const noexcept {
  if (const MappedFile* file = mapping_of(tensor)) file->will_need(tensor.data);
}

const MappedFile* WeightStore::mapping_of(const StoredTensor& tensor) const noexcept {
  const auto found =
      std::ranges::find_if(files(), [&](const MappedFile& file) { return file.contains(tensor.data); });
  return found != files().end() ? &*found : nullptr;
}

}  // namespace metal_candle
