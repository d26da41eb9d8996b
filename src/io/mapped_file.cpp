#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <string>
#include <system_error>
#include <utility>

#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

[[noreturn]] void fail(ErrorCode code, const std::filesystem::path& path, const std::string& why) {
  throw Error(code, quote_path(path) + ": " + why);
}

[[noreturn]] void fail_errno(const std::filesystem::path& path, const char* action) {
  const int error = errno;
  const bool missing = error == ENOENT || error == ENOTDIR;
  if (missing) fail(ErrorCode::not_found, path, "no such file; check the path");
  const bool misnamed = error == ENAMETOOLONG || error == ELOOP;
  fail(misnamed ? ErrorCode::invalid_argument : ErrorCode::io_error, path,
       std::string("cannot ") + action + ": " + std::generic_category().message(error));
}

std::uintptr_t page_size() noexcept {
  static const auto size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

std::uintptr_t address(const std::byte* p) noexcept { return reinterpret_cast<std::uintptr_t>(p); }

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (value_ >= 0) ::close(value_);
}

MappedFile MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer; it means nothing for a regular file.
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail_errno(path, "open");
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) fail_errno(path, "stat");
  if (S_ISDIR(info.st_mode)) fail(ErrorCode::invalid_argument, path, "is a directory; give a file inside it");
  if (!S_ISREG(info.st_mode)) fail(ErrorCode::invalid_argument, path, "is not a regular file");
  if (info.st_size == 0) fail(ErrorCode::malformed_file, path, "is empty; download or write it again");
  const auto size = static_cast<std::size_t>(info.st_size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (memory == MAP_FAILED) fail_errno(path, "map");
  return MappedFile(path, std::move(file), {static_cast<const std::byte*>(memory), size});
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), file_(std::move(other.file_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

bool MappedFile::contains(std::span<const std::byte> part) const noexcept {
  const std::uintptr_t begin = address(bytes_.data());
  const std::uintptr_t first = address(part.data());
  return first >= begin && first - begin <= bytes_.size() && part.size() <= bytes_.size() - (first - begin);
}

void MappedFile::read(std::span<const std::byte> part, std::byte* to) const {
  if (!contains(part)) fail(ErrorCode::invalid_argument, path_, "a part that is not in it cannot be read");
  auto offset = static_cast<::off_t>(part.data() - bytes_.data());
  for (std::size_t left = part.size(); left > 0;) {
    const ::ssize_t got = ::pread(file_.get(), to, left, offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(path_, "read");
    if (got == 0) fail(ErrorCode::io_error, path_, "has become shorter while it was read");
    to += got;
    offset += got;
    left -= static_cast<std::size_t>(got);
  }
}

void MappedFile::release(std::span<const std::byte> part) const noexcept {
  if (!contains(part)) return;
  const std::uintptr_t page = page_size();
  const std::uintptr_t end_of_file = address(bytes_.data()) + bytes_.size();
  const std::uintptr_t begin = (address(part.data()) + page - 1) / page * page;
  std::uintptr_t end = address(part.data()) + part.size();
  // The file's last page is mapped whole, so it may go when the part reaches the end.
  end = end == end_of_file ? (end + page - 1) / page * page : end / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void MappedFile::will_need(std::span<const std::byte> part) const noexcept {
  if (!contains(part) || part.empty()) return;
  const std::uintptr_t begin = address(part.data()) / page_size() * page_size();
  const std::uintptr_t end = address(part.data()) + part.size();
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

}  // namespace metal_candle
