// The index against brute force, and against crashes and damage.
#include "embeddings/search_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <random>

#include "embeddings/pooling.h"
#include "embeddings/sqlite.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

constexpr std::size_t kDimensions = 16;

std::vector<float> unit_vectors(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> out(count * kDimensions);
  for (float& x : out) x = normal(random);
  for (std::size_t i = 0; i < count; ++i) normalize_l2(&out[i * kDimensions], kDimensions);
  return out;
}

std::span<const float> row(const std::vector<float>& vectors, std::size_t i) {
  return std::span(vectors).subspan(i * kDimensions, kDimensions);
}

std::vector<std::string> numbered(std::size_t count) {
  std::vector<std::string> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back("passage " + std::to_string(i));
  return out;
}

class SearchIndexTest : public testing::Test {
 protected:
  test::TempDir folder;
  std::filesystem::path directory = folder / "index";
  std::vector<float> vectors = unit_vectors(300, 1);

  SearchIndex filled() {
    SearchIndex index = SearchIndex::create(directory, "model", kDimensions);
    index.add("a.txt", "1", numbered(300), vectors);
    return index;
  }
  /// Text of the stored passage nearest to passage 42.
  static std::string nearest(SearchIndex& index, const std::vector<float>& all) {
    return index.find(row(all, 42), 1).at(0).text;
  }
};

TEST_F(SearchIndexTest, FindsWhatBruteForceFinds) {
  SearchIndex index = filled();
  const std::vector<float> queries = unit_vectors(50, 2);
  std::size_t right = 0;
  for (std::size_t q = 0; q < 50; ++q) {
    std::vector<std::pair<float, std::size_t>> all;
    for (std::size_t i = 0; i < 300; ++i) {
      float dot = 0;
      for (std::size_t c = 0; c < kDimensions; ++c) dot += row(queries, q)[c] * row(vectors, i)[c];
      all.emplace_back(-dot, i);
    }
    std::sort(all.begin(), all.end());
    const std::vector<FoundPassage> found = index.find(row(queries, q), 5);
    ASSERT_EQ(found.size(), 5u);
    for (std::size_t i = 0; i < 5; ++i) {
      right += found[i].position == static_cast<std::int64_t>(all[i].second);
      EXPECT_LE(found[i].cosine, found[i == 0 ? 0 : i - 1].cosine);
    }
    EXPECT_NEAR(found[0].cosine, -all[0].first, 1e-5);
  }
  EXPECT_GE(right, 245u);  // of 250: the graph is approximate
}

TEST_F(SearchIndexTest, WhatWasAddedIsThereAgain) {
  filled();
  SearchIndex index = SearchIndex::open(directory);
  EXPECT_EQ(index.model(), "model");
  EXPECT_EQ(index.dimensions(), kDimensions);
  EXPECT_EQ(index.passages(), 300);
  EXPECT_TRUE(index.holds("a.txt", "1"));
  EXPECT_FALSE(index.holds("a.txt", "2"));
  EXPECT_EQ(nearest(index, vectors), "passage 42");
}

TEST_F(SearchIndexTest, AChangedDocumentTakesTheOldOnesPlace) {
  SearchIndex index = filled();
  EXPECT_EQ(nearest(index, vectors), "passage 42");
  const std::vector<std::string> text{"new"};
  index.add("a.txt", "2", text, unit_vectors(1, 3));
  EXPECT_EQ(index.passages(), 1);
  EXPECT_EQ(nearest(index, vectors), "new");
}

TEST_F(SearchIndexTest, AnInterruptedBuildIsSeenAndLosesNothing) {
  filled();
  {
    SearchIndex index = SearchIndex::open(directory);
    EXPECT_TRUE(index.unfinished()) << "a crash may come before the first begin_update()";
    EXPECT_EQ(index.passages(), 300);
    index.end_update();
  }
  {
    SearchIndex index = SearchIndex::open(directory);
    EXPECT_FALSE(index.unfinished());
    index.begin_update();
  }
  EXPECT_TRUE(SearchIndex::open(directory).unfinished());
}

TEST_F(SearchIndexTest, AMissingOrDamagedGraphIsMadeAnew) {
  {
    SearchIndex index = filled();
    EXPECT_EQ(nearest(index, vectors), "passage 42");
  }
  const auto graph = directory / "graph.hnsw";
  const auto whole = std::filesystem::file_size(graph);
  for (int damage = 0; damage < 3; ++damage) {
    if (damage == 0) {
      std::filesystem::remove(graph);
    } else if (damage == 1) {
      std::filesystem::resize_file(graph, whole / 2);
    } else {
      std::fstream file(graph, std::ios::in | std::ios::out | std::ios::binary);
      file.seekp(16);
      file.write("\xff\xff\xff\xff", 4);
    }
    SearchIndex index = SearchIndex::open(directory);
    EXPECT_EQ(nearest(index, vectors), "passage 42") << damage;
    EXPECT_EQ(std::filesystem::file_size(graph), whole);
  }
}

TEST_F(SearchIndexTest, AVectorOfAnotherSizeInTheFileIsAnError) {
  filled();
  Database(directory / "index.sqlite", false)
      .execute("UPDATE passages SET vector = zeroblob(12) WHERE position = 7");
  SearchIndex index = SearchIndex::open(directory);
  EXPECT_MC_ERROR(nearest(index, vectors), ErrorCode::malformed_file, "passage 8", "12 bytes instead of 64");
}

TEST_F(SearchIndexTest, ErrorsSayWhatToDo) {
  EXPECT_MC_ERROR(SearchIndex::open(directory), ErrorCode::not_found, "index build");
  {
    SearchIndex index = filled();
    EXPECT_MC_ERROR(index.find(std::vector<float>(8), 1), ErrorCode::invalid_argument, "16 values", "8");
    EXPECT_MC_ERROR(index.add("b", "1", numbered(2), vectors), ErrorCode::invalid_argument, "16 values");
  }
  EXPECT_MC_ERROR(SearchIndex::create(directory, "m", 4), ErrorCode::invalid_argument, "index add");
  std::ofstream(directory / "index.sqlite")
      << "this is no database, however long it may be: " << std::string(4096, 'x');
  EXPECT_MC_ERROR(SearchIndex::open(directory), ErrorCode::malformed_file, "index.sqlite");
}

}  // namespace
}  // namespace metal_candle
