// TensorBoard's event files, written record by record: scalars only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace metal_candle::cli {

/// One file, one thread.
class EventFile {
 public:
  /// Makes the directory and in it "events.out.tfevents.<seconds>.<host>". Throws Error(io_error).
  explicit EventFile(const std::filesystem::path& directory);

  /// Throws Error(io_error).
  void add(std::uint64_t step, const std::vector<std::pair<std::string, double>>& scalars);

 private:
  void record(std::string_view data);
  std::filesystem::path file_;
  std::ofstream out_;
};

/// CRC-32C (RFC 3720) as records hold it: rotated and shifted, so that a checksum of checksums is none.
std::uint32_t masked_crc32c(std::string_view data) noexcept;

}  // namespace metal_candle::cli
