// Rows of an embedding table that is kept packed (it often doubles as the output projection).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/lora.h"
#include "kernels/packed_linear.h"
#include "mlx/array.h"

namespace metal_candle {

/// f32 [ids.size(), in_features] on the calling thread, evaluated at once: the ids are known to the host.
/// `lora` (may be null) is applied to the rows. Throws Error(invalid_argument) on an id outside the table or
/// an empty list.
mlx::core::array embed(const PackedLinear& table, std::span<const std::int32_t> ids,
                       const LoraCall* lora = nullptr);

}  // namespace metal_candle
