// The storage format of a weight matrix, as the linear kernels tell formats apart. Data only.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

/// A plain or GGUF type; or MLX's affine quantization: codes of 4 or 8 bits packed in uint32 from the low
/// bits up, value = scale · code + bias, one scale and bias per `group` consecutive inputs.
struct WeightFormat {
  DType type = DType::f32;    ///< u32 if affine
  DType scales = DType::f32;  ///< affine: f32, f16 or bf16, of scales and biases
  std::uint8_t bits = 0;      ///< affine: 4 or 8, else 0
  std::uint16_t group = 0;    ///< affine: 32, 64 or 128

  constexpr WeightFormat(DType plain) : type(plain) {}  // NOLINT: a DType is a format
  static constexpr WeightFormat affine(std::uint8_t bits, std::uint16_t group, DType scales) {
    WeightFormat format(DType::u32);
    format.scales = scales;
    format.bits = bits;
    format.group = group;
    return format;
  }
  bool operator==(const WeightFormat&) const = default;
};

}  // namespace metal_candle::simd
