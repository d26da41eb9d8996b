#include "io/atomic_writer.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::read_text;
using test::TempDir;

std::size_t file_count(const TempDir& dir) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(dir.path()), {}));
}

TEST(AtomicWriter, TheTargetAppearsWithCommitOnly) {
  const TempDir dir;
  const auto target = dir.write("file", "old");
  AtomicWriter writer(target);
  writer.write("new ");
  writer.write(std::string(100000, 'x'));
  EXPECT_EQ(writer.written(), 100004u);
  EXPECT_EQ(read_text(target), "old");
  writer.commit();
  EXPECT_EQ(read_text(target), "new " + std::string(100000, 'x'));
  EXPECT_EQ(file_count(dir), 1u);
}

TEST(AtomicWriter, WhatWasWrittenMayBeRewrittenInPlace) {
  const TempDir dir;
  AtomicWriter writer(dir / "file");
  writer.write("count ?, then more");
  writer.rewrite(6, "7");
  writer.write(" text");
  EXPECT_MC_ERROR(writer.rewrite(20, "beyond"), ErrorCode::internal, "nothing was written");
  writer.commit();
  EXPECT_EQ(read_text(dir / "file"), "count 7, then more text");
}

TEST(AtomicWriter, WithoutCommitNothingRemains) {
  const TempDir dir;
  {
    AtomicWriter writer(dir / "file");
    writer.write("half");
    EXPECT_EQ(file_count(dir), 1u);  // beside the target, so that the rename stays on one file system
  }
  EXPECT_EQ(file_count(dir), 0u);
}

TEST(AtomicWriter, HonoursTheUmask) {
  const TempDir dir;
  const mode_t before = ::umask(027);
  AtomicWriter writer(dir / "file");
  writer.commit();
  ::umask(before);
  struct stat info {};
  ASSERT_EQ(::stat((dir / "file").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0640u);
}

TEST(AtomicWriter, TwoWritersOfOneTargetDoNotMeet) {
  const TempDir dir;
  AtomicWriter a(dir / "file"), b(dir / "file");
  a.write("a");
  b.write("b");
  a.commit();
  EXPECT_EQ(read_text(dir / "file"), "a");
  b.commit();
  EXPECT_EQ(read_text(dir / "file"), "b");
}

TEST(AtomicWriter, ALongNameStillFits) {
  const TempDir dir;
  const std::string name(250, 'n');
  AtomicWriter writer(dir / name);
  writer.commit();
  EXPECT_TRUE(std::filesystem::exists(dir / name));
}

TEST(AtomicWriter, ErrorsNameTheTarget) {
  const TempDir dir;
  EXPECT_MC_ERROR(AtomicWriter(dir / "absent/file"), ErrorCode::not_found, "absent/file", "does not exist");
  EXPECT_MC_ERROR(AtomicWriter(dir.write("plain", "x") / "file"), ErrorCode::not_found, "plain/file");
  EXPECT_MC_ERROR(AtomicWriter(dir.path() / ""), ErrorCode::invalid_argument, "not a file name");
  std::filesystem::create_directory(dir / "folder");
  std::optional<AtomicWriter> writer;
  writer.emplace(dir / "folder");
  EXPECT_MC_ERROR(writer->commit(), ErrorCode::invalid_argument, "folder", "is a directory");
  writer.reset();
  EXPECT_EQ(file_count(dir), 2u);
}

TEST(AtomicWriter, APipeOrADeviceIsNotReplaced) {
  const TempDir dir;
  const auto pipe = dir / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_MC_ERROR(AtomicWriter{pipe}, ErrorCode::invalid_argument, "pipe");
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_EQ(file_count(dir), 1u);
  EXPECT_MC_ERROR(AtomicWriter{"/dev/null"}, ErrorCode::invalid_argument, "/dev/null");
}

TEST(AtomicWriter, AForbiddenDirectoryIsAnIoError) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "locked");
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod((dir / "locked").c_str(), 0555), 0);
  const bool root = ::geteuid() == 0;  // root writes everywhere: be nobody for a moment
  ASSERT_EQ(root ? ::seteuid(65534) : 0, 0);
  EXPECT_MC_ERROR(AtomicWriter(dir / "locked/file"), ErrorCode::io_error, "locked/file", "cannot create");
  ASSERT_EQ(root ? ::seteuid(0) : 0, 0);
}

// A file size limit stands for the full disk: write(2) fails the same way, in the middle of the data.
TEST(AtomicWriter, ARefusedWriteIsAnIoErrorAndLeavesTheOldFile) {
  const TempDir dir;
  const auto target = dir.write("file", "old");
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit low = before;
  low.rlim_cur = 4096;
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &low), 0);
  {
    AtomicWriter writer(target);
    EXPECT_MC_ERROR(writer.write(std::string(10000, 'x')), ErrorCode::io_error, "file", "cannot write",
                    "free space");
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_text(target), "old");
  EXPECT_EQ(file_count(dir), 1u);
}

}  // namespace
}  // namespace metal_candle
