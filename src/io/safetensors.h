// Reader of safetensors files, single or sharded as Hugging Face lays them out. It reads no config.json and
// gives no name a meaning. Format: github.com/huggingface/safetensors, README, "Format".
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/mapped_file.h"
#include "io/stored_tensor.h"

namespace metal_candle {

/// One file's content; tensors view the bytes it was parsed from and stand in the order of their data.
struct SafetensorsContent {
  std::vector<StoredTensor> tensors;
  std::map<std::string, std::string> metadata;  ///< The header's "__metadata__".
};

/// Whether these bytes begin as a safetensors file does: a length below 4 GB, then JSON.
bool looks_like_safetensors(std::span<const std::byte> bytes) noexcept;

/// Checks and reads one whole file. `name` stands for it in messages.
/// Throws malformed_file for every breach of the format (sizes, JSON, duplicate names, offsets that overlap,
/// leave gaps or pass the end) and unsupported for element types outside DType.
SafetensorsContent parse_safetensors(std::span<const std::byte> bytes, std::string_view name);

/// An open model of one or several safetensors files; owns their mappings. Move-only; immutable, so const
/// calls are thread-safe. Tensors live as long as it does.
class SafetensorsModel {
 public:
  /// `path`: a .safetensors file, a *.safetensors.index.json, or a directory that holds model.safetensors
  /// or model.safetensors.index.json (the single file wins, as in transformers).
  /// Throws as MappedFile::open and parse_safetensors do; not_found for a directory with neither file or a
  /// shard that is missing; malformed_file for an index that does not agree with its shards.
  static SafetensorsModel open(const std::filesystem::path& path);

  /// The same for a file already mapped. Its content says whether it is an index.
  static SafetensorsModel open(MappedFile file);

  /// Where config.json and tokenizer.json lie, if there are any.
  const std::filesystem::path& directory() const noexcept { return directory_; }
  std::span<const MappedFile> files() const noexcept { return files_; }
  std::span<const StoredTensor> tensors() const noexcept { return tensors_; }
  /// Null if there is no such tensor.
  const StoredTensor* find(std::string_view tensor) const noexcept;
  /// "__metadata__" of all files; the first file wins.
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }

 private:
  SafetensorsModel() = default;
  void add_shards(const MappedFile& index);
  void add(MappedFile file);

  std::filesystem::path directory_;
  std::vector<MappedFile> files_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

}  // namespace metal_candle
