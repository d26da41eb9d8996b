// Reader of GGUF model files, versions 2 and 3, little-endian: header, metadata and tensor directory.
// It converts no weights and gives no name a meaning. Format: ggml, docs/gguf.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "io/gguf_metadata.h"
#include "io/mapped_file.h"
#include "io/stored_tensor.h"

namespace metal_candle {

/// An open GGUF file; owns its mapping. Move-only; immutable, so const calls are thread-safe.
/// Tensor data, metadata strings and names live as long as it does.
class GgufFile {
 public:
  /// Maps and checks the file. Throws as MappedFile::open does; malformed_file for every breach of the
  /// format; unsupported for version 1, big-endian files and tensor types outside DType.
  static GgufFile open(const std::filesystem::path& path) { return open(MappedFile::open(path)); }
  static GgufFile open(MappedFile file);

  /// The same over memory that outlives the result; `name` stands for the file in messages.
  static GgufFile parse(std::span<const std::byte> bytes, std::string name);

  /// Whether these bytes open with GGUF's magic number.
  static bool has_magic(std::span<const std::byte> bytes) noexcept;

  const std::string& name() const noexcept { return name_; }
  std::uint32_t version() const noexcept { return version_; }
  std::uint64_t alignment() const noexcept { return alignment_; }
  const GgufMetadata& metadata() const noexcept { return metadata_; }

  /// In file order; empty for a vocabulary-only file. Shapes are row-major.
  std::span<const StoredTensor> tensors() const noexcept { return tensors_; }
  /// Null if there is no such tensor.
  const StoredTensor* find(std::string_view tensor) const noexcept;

  /// The open file; none if it was parsed from memory.
  std::span<const MappedFile> files() const noexcept {
    return mapping_ ? std::span<const MappedFile>(&*mapping_, 1) : std::span<const MappedFile>();
  }

 private:
  GgufFile() = default;
  void read(std::span<const std::byte> bytes);
  void read_tensors(ByteReader& reader, std::uint64_t count, std::span<const std::byte> bytes);

  std::string name_;
  std::optional<MappedFile> mapping_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  GgufMetadata metadata_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> index_;  // keys lie in the file's bytes
};

}  // namespace metal_candle
