#include "io/atomic_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::filesystem::path directory_of(const std::filesystem::path& file) {
  const auto parent = file.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

/// A name beside the target that no other process and no other writer of this one is using.
std::filesystem::path temporary_name(const std::filesystem::path& target) {
  static std::atomic<unsigned> next{0};
  std::string name = ".";
  name += target.filename().native().substr(0, 200);  // the whole stays within the usual 255 bytes a name
  name += '.';
  name += std::to_string(::getpid());
  name += '-';
  name += std::to_string(next.fetch_add(1));
  name += ".tmp";
  return directory_of(target) / name;
}

}  // namespace

AtomicWriter::AtomicWriter(std::filesystem::path target) : target_(std::move(target)) {
  if (!target_.has_filename()) {
    throw Error(ErrorCode::invalid_argument, quote_path(target_) + ": is not a file name to write to");
  }
  std::error_code ignored;  // what cannot be looked at, cannot be opened either
  if (const auto status = std::filesystem::status(target_, ignored); std::filesystem::is_other(status)) {
    throw Error(
        ErrorCode::invalid_argument,
        quote_path(target_) + ": is a device or a pipe, which a file would replace; give another name");
  }
  // A process that died under our number may have left a name behind: take the next one.
  do {
    temporary_ = temporary_name(target_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0 && (errno == ENOENT || errno == ENOTDIR)) {
    throw Error(ErrorCode::not_found,
                quote_path(target_) + ": its directory does not exist; create it first");
  }
  if (descriptor_ < 0) fail("create a file beside it");
}

AtomicWriter::~AtomicWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicWriter::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) throw Error(ErrorCode::internal, quote_path(target_) + ": written to after commit");
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    written_ += static_cast<std::uint64_t>(count);
  }
}

void AtomicWriter::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicWriter::rewrite(std::uint64_t offset, std::string_view text) {
  if (descriptor_ < 0 || offset + text.size() > written_)
    throw Error(ErrorCode::internal, quote_path(target_) + ": rewritten where nothing was written");
  while (!text.empty()) {
    const ssize_t count = ::pwrite(descriptor_, text.data(), text.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("write");
    text.remove_prefix(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

void AtomicWriter::commit() {
  if (descriptor_ < 0) throw Error(ErrorCode::internal, quote_path(target_) + ": committed twice");
  if (::fsync(descriptor_) != 0) fail("flush");
  if (::close(std::exchange(descriptor_, -1)) != 0) fail("close");
  std::error_code ignored;
  if (std::filesystem::is_directory(target_, ignored)) {
    throw Error(ErrorCode::invalid_argument, quote_path(target_) + ": is a directory; give a file to write");
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("rename to");
  temporary_.clear();
  // Without this the new name could be lost with a power failure. Some file systems cannot: the file is
  // whole under its name by now, so that is no failure.
  const int directory = ::open(directory_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory >= 0) {
    ::fsync(directory);
    ::close(directory);
  }
}

void AtomicWriter::fail(const char* action) const {
  const int error = errno;
  throw Error(ErrorCode::io_error, quote_path(target_) + ": cannot " + action + ": " +
                                       std::generic_category().message(error) +
                                       "; free space or choose another place");
}

}  // namespace metal_candle
