// A file that appears whole or not at all, whatever happens while it is written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace metal_candle {

/// Writes to a temporary name beside the target; commit() makes it durable and renames it over the target.
/// Without commit() the destructor removes the temporary and the target stays as it was.
/// Owns one file descriptor; neither copied nor moved; one thread. Unbuffered: write large pieces.
/// A target that is a symbolic link is replaced by the file.
class AtomicWriter {
 public:
  /// Throws invalid_argument (the target is a device or a pipe), not_found (no such directory) or io_error
  /// (permission, read-only file system).
  explicit AtomicWriter(std::filesystem::path target);
  ~AtomicWriter();
  AtomicWriter(const AtomicWriter&) = delete;
  AtomicWriter& operator=(const AtomicWriter&) = delete;

  /// Throws io_error (full disk, file size limit).
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites what was written at `offset`: a header whose counts are known only at the end. Throws
  /// io_error.
  void rewrite(std::uint64_t offset, std::string_view text);

  std::uint64_t written() const noexcept { return written_; }

  /// fsync, rename, fsync of the directory. Throws io_error, invalid_argument if the target is a directory.
  /// Nothing may be written after it.
  void commit();

 private:
  [[noreturn]] void fail(const char* action) const;

  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
  std::uint64_t written_ = 0;
};

}  // namespace metal_candle
