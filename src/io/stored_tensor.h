// A tensor as it lies in a mapped model file: the common currency of the GGUF and safetensors readers.
// A view only; it says nothing about which model the name belongs to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace metal_candle {

/// Valid as long as the file object that returned it lives. Bounds, alignment of the byte count to
/// shape and dtype, and absence of overlaps have been checked when the file was opened.
struct StoredTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::uint64_t> shape;  ///< Row-major, outermost dimension first (the reverse of GGUF's `ne`).
  std::span<const std::byte> data;   ///< In the mapping; may be unaligned.
};

}  // namespace metal_candle
