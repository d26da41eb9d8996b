// Rows of numbers to a .npy or .safetensors file, as they come: their number is written into the header at
// the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/dtype.h"
#include "io/atomic_writer.h"

namespace metal_candle::cli {

/// Appears whole, or not at all. One thread.
class MatrixFile {
 public:
  /// The format follows from the name's ending. dtype: f32, i8 or u8. Throws Error(invalid_argument) for
  /// another ending, else as AtomicWriter does.
  MatrixFile(const std::string& path, DType dtype, std::size_t columns);
  /// Whole rows.
  void write(std::span<const std::byte> rows);
  void commit();

 private:
  std::string header() const;

  bool npy_;
  DType dtype_;
  std::size_t columns_;
  std::uint64_t bytes_ = 0;
  AtomicWriter file_;
};

}  // namespace metal_candle::cli
