// Writer of GGUF files, version 3, little-endian, as ggml's own tools lay them out. Adapters and merged
// models are written with it; it gives no key a meaning but general.alignment.
#pragma once

#include <filesystem>
#include <span>

#include "io/gguf_metadata.h"
#include "io/stored_tensor.h"

namespace metal_candle {

/// Writes metadata and tensors, in this order, to `path` atomically (io/atomic_writer.h). Data is aligned to
/// the entry general.alignment, 32 without one.
/// Throws invalid_argument for a key or name that is empty, too long (a name: 63 bytes, ggml's limit) or
/// occurs twice, an entry whose value does not fit its type, a dtype that GGUF has not, a shape of no or more
/// than 4 dimensions, data that does not match shape and dtype; io_error if the system refuses.
void write_gguf(const std::filesystem::path& path, std::span<const GgufEntry> metadata,
                std::span<const StoredTensor> tensors);

}  // namespace metal_candle
