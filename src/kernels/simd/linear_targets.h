// The entry points that each linear_<target>.cpp offers to linear.cpp. Internal to the linear kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simd/linear.h"

namespace metal_candle::simd {

/// Arguments as of linear_tile().
using TileProduct = void (*)(const WeightFormat& format, std::size_t k, const std::uint8_t* tile,
                             const std::uint8_t* acts, std::size_t acts_stride, std::size_t rows, float* out,
                             std::size_t out_stride);

struct LinearTable {
  // Quantized formats: straight from the packed tile, or expand first and multiply many rows.
  TileProduct packed;
  void (*expand)(const WeightFormat& format, std::size_t k, const std::uint8_t* tile, std::uint8_t* out);
  TileProduct expanded;
  // Dense formats, f32 products.
  void (*dense)(const WeightFormat& format, std::size_t k, const std::uint8_t* tile, const std::uint8_t* acts,
                std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride,
                const SumStart& start);
  std::size_t max_packed_rows;  ///< above, expanding first is faster
};

extern const LinearTable kLinearScalar;
extern const LinearTable kLinearAvx2;
extern const LinearTable kLinearAvx2Vnni;
extern const LinearTable kLinearAvx512;
extern const LinearTable kLinearAvx512Vnni;
extern const LinearTable kLinearNeon;

}  // namespace metal_candle::simd
