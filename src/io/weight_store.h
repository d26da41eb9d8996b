// A model's stored tensors by name, whatever format they lie in: one face over GGUF and safetensors.
// It converts nothing and gives no name a meaning (io/weight_names does).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "io/gguf.h"
#include "io/safetensors.h"

namespace metal_candle {

/// Owns the open files. Move-only; immutable, so const calls are thread-safe. Tensors live as long as it
/// does.
class WeightStore {
 public:
  /// `path`: a GGUF file, a safetensors file, an index of shards, or a directory in Hugging Face's layout.
  /// Files are told apart by content, not by extension. Throws as GgufFile::open and SafetensorsModel::open
  /// do; unsupported for PyTorch's pickles.
  static WeightStore open(const std::filesystem::path& path);

  /// The path given to open().
  const std::filesystem::path& path() const noexcept { return path_; }

  std::span<const MappedFile> files() const noexcept;
  std::span<const StoredTensor> tensors() const noexcept;
  std::vector<std::string_view> names() const;
  /// Null if there is no such tensor.
  const StoredTensor* find(std::string_view tensor) const noexcept;
  /// Throws malformed_file, naming file and tensor, if there is no such tensor.
  const StoredTensor& required(std::string_view tensor) const;

  /// Bytes of all tensors together.
  std::uint64_t total_bytes() const noexcept;

  /// The tensor's pages go back to the system: call it once its data has been repacked.
  void release(const StoredTensor& tensor) const noexcept;
  /// The tensor is needed soon.
  void will_need(const StoredTensor& tensor) const noexcept;

  /// The GGUF file with its metadata; null for safetensors.
  const GgufFile* gguf() const noexcept { return std::get_if<GgufFile>(&files_); }
  /// The safetensors model, whose directory() holds config.json; null for GGUF.
  const SafetensorsModel* safetensors() const noexcept { return std::get_if<SafetensorsModel>(&files_); }

 private:
  WeightStore(std::filesystem::path path, std::variant<GgufFile, SafetensorsModel> files)
      : path_(std::move(path)), files_(std::move(files)) {}
  const MappedFile* mapping_of(const StoredTensor& tensor) const noexcept;

  std::filesystem::path path_;
  std::variant<GgufFile, SafetensorsModel> files_;
};

}  // namespace metal_candle
