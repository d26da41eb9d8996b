#include "io/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

/// Pages of the range that this process has mapped right now (Linux: /proc/self/smaps would say the same).
std::size_t resident_kib(const std::byte* begin) {
  std::ifstream smaps("/proc/self/smaps");
  char wanted[32];
  std::snprintf(wanted, sizeof wanted, "%lx-", reinterpret_cast<unsigned long>(begin));
  std::string line;
  bool inside = false;
  while (std::getline(smaps, line)) {
    if (line.find("-") < 17 && line.rfind(wanted, 0) == 0) inside = true;
    if (inside && line.rfind("Rss:", 0) == 0) return std::stoul(line.substr(4));
  }
  return ~std::size_t{0};
}

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 4096);
  return text;
}

TEST(MappedFile, ReadsTheWholeFile) {
  const TempDir dir;
  const std::string content = pattern(10000);
  const auto path = dir.write("file", content);
  const MappedFile file = MappedFile::open(path);
  EXPECT_EQ(file.path(), path);
  ASSERT_EQ(file.bytes().size(), content.size());
  EXPECT_TRUE(std::ranges::equal(file.bytes(), test::as_bytes(content)));
}

TEST(MappedFile, ReadsAPartWithoutItsPages) {
  const TempDir dir;
  const std::string content = pattern(1 << 20);
  const MappedFile file = MappedFile::open(dir.write("file", content));
  std::vector<std::byte> part(300'000);
  file.read(file.bytes().subspan(5000, part.size()), part.data());
  EXPECT_TRUE(std::ranges::equal(part, test::as_bytes(content).subspan(5000, part.size())));
  EXPECT_EQ(resident_kib(file.bytes().data()), 0u);
  EXPECT_MC_ERROR(file.read(part, part.data()), ErrorCode::invalid_argument, "not in it");
}

TEST(MappedFile, ReadingWhatIsGoneIsAnError) {
  const TempDir dir;
  const auto path = dir.write("file", pattern(100'000));
  MappedFile file = MappedFile::open(path);
  std::filesystem::resize_file(path, 50'000);
  const MappedFile moved = std::move(file);
  std::vector<std::byte> part(20'000);
  moved.read(moved.bytes().first(part.size()), part.data());
  EXPECT_EQ(part[7], static_cast<std::byte>(pattern(8)[7]));
  EXPECT_MC_ERROR(moved.read(moved.bytes().subspan(40'000, part.size()), part.data()), ErrorCode::io_error,
                  "shorter");
}

TEST(MappedFile, MovesItsMapping) {
  const TempDir dir;
  MappedFile a = MappedFile::open(dir.write("a", "first"));
  MappedFile b = MappedFile::open(dir.write("b", "second"));
  const std::byte* data = a.bytes().data();
  MappedFile moved = std::move(a);
  EXPECT_TRUE(a.bytes().empty());
  b = std::move(moved);
  EXPECT_EQ(b.bytes().data(), data);
  EXPECT_EQ(b.path().filename(), "a");
}

TEST(MappedFile, ErrorsNameThePath) {
  const TempDir dir;
  EXPECT_MC_ERROR(MappedFile::open(dir / "absent"), ErrorCode::not_found, (dir / "absent").native());
  EXPECT_MC_ERROR(MappedFile::open(dir.write("file", "x") / "below"), ErrorCode::not_found, "below");
  EXPECT_MC_ERROR(MappedFile::open(dir.path()), ErrorCode::invalid_argument, "is a directory");
  EXPECT_MC_ERROR(MappedFile::open(dir.write("empty", "")), ErrorCode::malformed_file, "empty");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_MC_ERROR(MappedFile::open(dir / "pipe"), ErrorCode::invalid_argument, "not a regular file");
  EXPECT_MC_ERROR(MappedFile::open(dir / "two\nlines"), ErrorCode::not_found, "two\\x0alines");
}

TEST(MappedFile, UnreadableFileIsAnIoError) {
  const TempDir dir;
  const auto path = dir.write("secret", "x");
  ASSERT_EQ(::chmod(path.c_str(), 0), 0);
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  const bool root = ::geteuid() == 0;  // root reads everything: be nobody for a moment
  ASSERT_EQ(root ? ::seteuid(65534) : 0, 0);
  EXPECT_MC_ERROR(MappedFile::open(path), ErrorCode::io_error, "secret", "cannot open");
  ASSERT_EQ(root ? ::seteuid(0) : 0, 0);
}

TEST(MappedFile, ReleaseDropsWholePagesAndKeepsTheData) {
  const TempDir dir;
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::string content = pattern(64 * page + 100);
  const MappedFile file = MappedFile::open(dir.write("file", content));
  const auto touch = [&] { return std::ranges::equal(file.bytes(), test::as_bytes(content)); };
  ASSERT_TRUE(touch());
#ifdef __linux__
  const std::size_t all = resident_kib(file.bytes().data());
  file.release(file.bytes().subspan(1, 3 * page));  // whole pages inside: 2
  EXPECT_EQ(resident_kib(file.bytes().data()), all - 2 * page / 1024);
  file.release(file.bytes());
  EXPECT_EQ(resident_kib(file.bytes().data()), 0u);
#else
  file.release(file.bytes());
#endif
  file.will_need(file.bytes().subspan(10, 5));
  EXPECT_TRUE(touch());
}

TEST(MappedFile, IgnoresHintsOutsideTheMapping) {
  const TempDir dir;
  const MappedFile file = MappedFile::open(dir.write("file", pattern(5000)));
  const std::vector<std::byte> other(20000, std::byte{7});
  file.release(other);
  file.will_need(other);
  EXPECT_TRUE(std::ranges::all_of(other, [](std::byte b) { return b == std::byte{7}; }));
  EXPECT_FALSE(file.contains(other));
  EXPECT_TRUE(file.contains(file.bytes().subspan(4999)));
  EXPECT_FALSE(file.contains({file.bytes().data() + 1, 5000}));
}

}  // namespace
}  // namespace metal_candle
