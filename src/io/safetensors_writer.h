// Writer of safetensors files, byte for byte as Hugging Face's own library lays them out. No sharding.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "io/stored_tensor.h"

namespace metal_candle {

/// Writes `tensors` to `path` atomically (io/atomic_writer.h).
/// Throws invalid_argument for a quantized dtype, data that does not match shape and dtype, a name that
/// occurs twice, is reserved ("__metadata__") or is not UTF-8; io_error if the system refuses.
void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace metal_candle
