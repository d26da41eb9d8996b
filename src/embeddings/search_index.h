// Passages of documents with their vectors, searched by meaning. A directory with two files: index.sqlite
// holds everything; graph.hnsw can be made from it at any time. It embeds nothing: vectors come in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "embeddings/sqlite.h"
#include "embeddings/vector_graph.h"

namespace metal_candle {

struct FoundPassage {
  std::string document;
  std::int64_t position = 0;  ///< of the passage in its document, from 0
  std::string text;
  float cosine = 0;
};

/// One thread at a time. What add() returned from is on disk, whatever happens later.
class SearchIndex {
 public:
  /// Makes an empty index, unfinished until end_update(). Throws Error(invalid_argument) if `directory` holds
  /// one already.
  static SearchIndex create(const std::filesystem::path& directory, const std::string& model,
                            std::size_t dimensions);
  /// Throws Error(not_found) if there is none, Error(malformed_file) if it is damaged.
  static SearchIndex open(const std::filesystem::path& directory);

  const std::string& model() const noexcept { return model_; }
  std::size_t dimensions() const noexcept { return dimensions_; }
  std::int64_t passages() const;

  /// Whether `document` is in the index as it was when it had this stamp.
  bool holds(std::string_view document, std::string_view stamp) const;
  /// Puts a document in, in place of what it held before. vectors: [passages, dimensions], of unit length.
  void add(std::string_view document, std::string_view stamp, std::span<const std::string> passages,
           std::span<const float> vectors);

  /// Between begin_update() and end_update() the index counts as unfinished, after a crash too.
  void begin_update();
  void end_update();
  bool unfinished() const;

  /// The k nearest passages. Makes the graph anew if its file is missing, stale or damaged.
  /// Throws Error(invalid_argument) if the vector has another size.
  std::vector<FoundPassage> find(std::span<const float> vector, std::size_t k);

 private:
  SearchIndex(std::filesystem::path directory, bool create);
  std::string meta(std::string_view key) const;
  void set_meta(std::string_view key, std::string_view value) const;
  VectorGraph& graph();
  VectorGraph build_graph() const;

  std::filesystem::path directory_;
  Database database_;
  std::string model_;
  std::size_t dimensions_ = 0;
  std::optional<VectorGraph> graph_;
};

}  // namespace metal_candle
