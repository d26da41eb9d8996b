// A file mapped into memory for reading. Not a parser and not a writer.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace metal_candle {

/// Owns an open file, or none (-1). Move-only.
class FileDescriptor {
 public:
  explicit FileDescriptor(int value = -1) noexcept : value_(value) {}
  FileDescriptor(FileDescriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(value_, other.value_);
    return *this;
  }
  ~FileDescriptor();
  int get() const noexcept { return value_; }

 private:
  int value_;
};

/// Owns one read-only mapping and the open file; move-only. Const members may be called from any thread.
/// Shrinking the file while it is mapped is the one thing nobody can guard against: the system then
/// raises SIGBUS on access. read() throws instead.
class MappedFile {
 public:
  /// Maps the whole file.
  /// Throws not_found (missing), invalid_argument (directory, pipe, device), malformed_file (empty)
  /// or io_error (permission, out of address space), each naming the path.
  static MappedFile open(const std::filesystem::path& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::filesystem::path& path() const noexcept { return path_; }
  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  bool contains(std::span<const std::byte> part) const noexcept;

  /// Copies `part` of the mapping to `to` without touching its pages: what is read once takes half as long as
  /// through page faults. Throws io_error if the file has become shorter, invalid_argument for parts outside.
  void read(std::span<const std::byte> part, std::byte* to) const;

  /// Gives the whole pages inside `part` back to the system; reading them again costs a page fault,
  /// never wrong data. Parts outside the mapping are ignored.
  void release(std::span<const std::byte> part) const noexcept;

  /// Asks the system to start reading the pages of `part`. Parts outside the mapping are ignored.
  void will_need(std::span<const std::byte> part) const noexcept;

 private:
  MappedFile(std::filesystem::path path, FileDescriptor file, std::span<const std::byte> bytes)
      : path_(std::move(path)), file_(std::move(file)), bytes_(bytes) {}

  std::filesystem::path path_;
  FileDescriptor file_;
  std::span<const std::byte> bytes_;
};

}  // namespace metal_candle
