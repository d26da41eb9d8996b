// The JSON header of a safetensors file, read as it comes: an adapter's names hundreds of tensors, and a tree
// of them takes an eighth of the time of loading it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/stored_tensor.h"

namespace metal_candle {

struct SafetensorsHeader {
  struct Tensor {
    StoredTensor tensor;               ///< without its data
    std::uint64_t begin = 0, end = 0;  ///< of its data, as many bytes apart as shape and type say
  };
  std::vector<Tensor> tensors;                  ///< in the header's order
  std::map<std::string, std::string> metadata;  ///< "__metadata__"
};

/// `file` stands for the file in messages. Throws malformed_file for anything but a header's JSON, keys that
/// occur twice among it, and unsupported for element types outside DType.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::string_view file);

}  // namespace metal_candle
