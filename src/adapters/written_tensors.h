// Tensors on their way to a file: owns their bytes, so that layouts can be turned before they are written.
#pragma once

#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "io/stored_tensor.h"
#include "kernels/lora.h"

namespace metal_candle {

class WrittenTensors {
 public:
  /// data: [rows, columns], written transposed if `transposed`.
  void add_matrix(std::string name, DType type, const std::byte* data, std::size_t rows, std::size_t columns,
                  bool transposed) {
    const std::size_t element = block_bytes(type);
    std::vector<std::byte>& bytes = memory_.emplace_back(rows * columns * element);
    if (transposed) {
      for (std::size_t i = 0; i < rows; ++i)
        for (std::size_t j = 0; j < columns; ++j)
          std::memcpy(&bytes[(j * rows + i) * element], data + (i * columns + j) * element, element);
      std::swap(rows, columns);
    } else {
      std::memcpy(bytes.data(), data, bytes.size());
    }
    tensors_.push_back({std::move(name), type, {rows, columns}, bytes});
  }

  /// B [out, rank] of a module, or Bᵀ.
  void add_b(std::string name, const LoraDelta& delta, bool transposed) {
    const std::size_t rows = transposed ? delta.rank : delta.n, columns = transposed ? delta.n : delta.rank;
    const std::vector<std::byte>& bytes = memory_.emplace_back(lora_unpack_b(delta, transposed));
    tensors_.push_back({std::move(name), delta.type, {rows, columns}, bytes});
  }

  /// Views: the floats must outlive this.
  void add_vector(std::string name, std::span<const float> values) {
    tensors_.push_back({std::move(name), DType::f32, {values.size()}, std::as_bytes(values)});
  }

  std::span<const StoredTensor> tensors() const noexcept { return tensors_; }

 private:
  std::deque<std::vector<std::byte>> memory_;
  std::vector<StoredTensor> tensors_;
};

}  // namespace metal_candle
