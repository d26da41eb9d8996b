#include "io/directory.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "io/text_file.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

std::vector<std::string> names_in(const std::filesystem::path& directory) {
  std::vector<std::string> out;
  for (const auto& file : files_in(directory)) out.push_back(file.filename().string());
  std::ranges::sort(out);
  return out;
}

TEST(Directory, IsMadeWithThoseAboveIt) {
  const TempDir dir;
  for (int again = 0; again < 2; ++again) {
    make_directory(dir / "a/b");
    EXPECT_TRUE(std::filesystem::is_directory(dir / "a/b"));
  }
  const auto file = dir.write("file", "x");
  EXPECT_MC_ERROR(make_directory(file), ErrorCode::invalid_argument, "file", "give a directory");
  EXPECT_MC_ERROR(make_directory(file / "below"), ErrorCode::io_error, "below", "cannot be created");
  EXPECT_MC_ERROR(make_directory(dir / std::string(300, 'a')), ErrorCode::io_error, "aaa");
}

TEST(Directory, ItsFilesAreListed) {
  const TempDir dir;
  dir.write("b", "1");
  dir.write("a", "");
  dir.write("below/c", "2");
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"a", "b"}));
  std::filesystem::create_symlink("nowhere", dir / "link");
  EXPECT_EQ(names_in(dir.path()), (std::vector<std::string>{"a", "b", "link"}));
  EXPECT_MC_ERROR(files_in(dir / "absent"), ErrorCode::io_error, "absent", "cannot be listed");
  EXPECT_MC_ERROR(files_in(dir / "b"), ErrorCode::io_error, "cannot be listed");
}

TEST(Directory, CompanionsAreCopiedAndNothingElse) {
  const TempDir from, to;
  for (const char* name : {"config.json", "chat_template.jinja", "merges.txt", "spiece.model"})
    from.write(name, name);
  from.write("added_tokens.json", "");
  std::filesystem::create_symlink("nowhere", from / "vocab.json");
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "README.md", "below/x.json"})
    from.write(name, name);
  to.write("config.json", "an older and longer one");
  copy_companions(from.path(), to.path());
  EXPECT_EQ(names_in(to.path()), (std::vector<std::string>{"added_tokens.json", "chat_template.jinja",
                                                           "config.json", "merges.txt", "spiece.model"}));
  EXPECT_EQ(read_text_file(to / "config.json"), "config.json");
  EXPECT_EQ(std::filesystem::file_size(to / "added_tokens.json"), 0u);
  copy_companions(from.path(), from.path());  // onto themselves
  EXPECT_EQ(read_text_file(from / "merges.txt"), "merges.txt");
  EXPECT_MC_ERROR(copy_companions(from.path(), to / "absent"), ErrorCode::not_found, "absent");
}

}  // namespace
}  // namespace metal_candle
