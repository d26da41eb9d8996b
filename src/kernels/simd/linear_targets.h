// The entry points that each linear_<target>.cpp offers to linear.cpp. Internal to the linear kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace metal_candle::simd {

/// Arguments as of linear_tile(); all formats that linear_supports().
using TileProduct = void (*)(DType type, std::size_t k, const std::uint8_t* tile, const std::uint8_t* acts,
                             std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride);

struct LinearTable {
  TileProduct packed;
  void (*expand)(DType type, std::size_t k, const std::uint8_t* tile, std::uint8_t* out);  ///< quantized only
  TileProduct expanded;                                                                    ///< quantized only
  void (*quantize_activations)(const float* x, std::size_t k, std::uint8_t* out);
  TileProduct dense_bf16;       ///< bf16 products, or nullptr
  std::size_t max_packed_rows;  ///< above, expanding first is faster
};

extern const LinearTable kLinearScalar;
extern const LinearTable kLinearAvx2;
extern const LinearTable kLinearAvx512;
extern const LinearTable kLinearAvx512Vnni;
extern const LinearTable kLinearAvx512Bf16;
extern const LinearTable kLinearNeon;

}  // namespace metal_candle::simd
