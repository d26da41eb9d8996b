// The layout is the one huggingface_hub documents: models--org--name/{refs/main,snapshots/<revision>}.
#include "io/hub_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

class HubCache : public testing::Test {
 protected:
  void SetUp() override {
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", dir.path().c_str(), 1);
  }
  void TearDown() override { unsetenv("HF_HOME"), unsetenv("HF_HUB_CACHE"); }

  fs::path add(const fs::path& hub, const std::string& file) {
    const fs::path repository = hub / "models--Org--Some.Model-1";
    const fs::path snapshot = repository / "snapshots" / "abc123";
    fs::create_directories(repository / "refs");
    fs::create_directories(snapshot);
    std::ofstream(repository / "refs" / "main") << "abc123\n";
    std::ofstream(snapshot / file) << "x";
    return snapshot;
  }

  test::TempDir dir;
};

TEST_F(HubCache, FindsASnapshotByName) {
  const fs::path snapshot = add(dir.path() / "hub", "config.json");
  EXPECT_EQ(find_model("Org/Some.Model-1"), snapshot);
}

TEST_F(HubCache, TheCacheVariableGoesBeforeTheHome) {
  const fs::path snapshot = add(dir.path() / "elsewhere", "config.json");
  setenv("HF_HUB_CACHE", (dir.path() / "elsewhere").c_str(), 1);
  EXPECT_EQ(find_model("Org/Some.Model-1"), snapshot);
}

TEST_F(HubCache, TakesTheOnlyGgufFile) {
  const fs::path snapshot = add(dir.path() / "hub", "a.gguf");
  EXPECT_EQ(find_model("Org/Some.Model-1"), snapshot / "a.gguf");
  std::ofstream(snapshot / "b.gguf") << "x";
  EXPECT_MC_ERROR(find_model("Org/Some.Model-1"), ErrorCode::invalid_argument, "2 GGUF files");
}

TEST_F(HubCache, WhatExistsOrIsNoNameIsLeftAlone) {
  const fs::path file = dir.path() / "model.gguf";
  std::ofstream(file) << "x";
  EXPECT_EQ(find_model(file), file);
  for (const char* path :
       {"missing.gguf", "a/b/c", "/a/b", "../b", "a/../b", "a/.b", "a/b c", "./b", "models/a.gguf"})
    EXPECT_EQ(find_model(path), path);
}

TEST_F(HubCache, ANameThatIsNotThereSaysWhereItLooked) {
  EXPECT_MC_ERROR(find_model("Org/Absent"), ErrorCode::not_found, "hf download Org/Absent");
  const fs::path snapshot = add(dir.path() / "hub", "config.json");
  fs::remove_all(snapshot);
  EXPECT_MC_ERROR(find_model("Org/Some.Model-1"), ErrorCode::not_found, "no such model");
}

}  // namespace
}  // namespace metal_candle
