// What is behind a Dataset: where each good line lies, and how it becomes an example.
#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <vector>

#include "training/example_encoder.h"

namespace metal_candle {

class Dataset::Impl {
 public:
  /// Reads the file once and checks every line. Throws as Dataset does.
  Impl(const std::filesystem::path& file, std::shared_ptr<const ExampleEncoder> encoder,
       const Options& options);

  TrainingExample at(std::size_t index) const;

  struct Line {
    std::uint64_t offset;
    std::uint32_t bytes, number;
  };
  std::vector<Line> lines;
  std::uint64_t skipped = 0;

 private:
  OrderedJson parse(const std::string& text, std::uint64_t number) const;
  std::string where(std::uint64_t number) const;

  std::filesystem::path file_;
  std::shared_ptr<const ExampleEncoder> encoder_;
  mutable std::mutex mutex_;
  mutable std::ifstream stream_;
};

}  // namespace metal_candle
