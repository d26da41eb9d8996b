// Nearest neighbours among unit vectors: hnswlib's graph (arXiv:1603.09320), with a file that is checked
// before hnswlib reads it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace metal_candle {

struct Neighbour {
  std::int64_t id = 0;
  float cosine = 0;
};

/// One thread at a time.
class VectorGraph {
 public:
  VectorGraph(std::size_t dimensions, std::size_t capacity);
  ~VectorGraph();
  VectorGraph(VectorGraph&&) noexcept;

  /// Throws Error(internal) beyond the capacity.
  void add(std::int64_t id, std::span<const float> vector);
  /// At most k, nearest first.
  std::vector<Neighbour> nearest(std::span<const float> vector, std::size_t k) const;

  /// Writes the file (whole or not at all) and returns its checksum.
  std::string save(const std::filesystem::path& path) const;
  /// Throws Error(not_found) if there is no file, Error(malformed_file) if it has not this checksum.
  static VectorGraph load(const std::filesystem::path& path, std::size_t dimensions,
                          const std::string& checksum);

 private:
  struct Impl;
  explicit VectorGraph(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace metal_candle
