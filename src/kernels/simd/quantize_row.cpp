#include "kernels/simd/quantize_row.h"

#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/simd/linear_layout.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/quantize_row.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

using Block32 = hn::CappedTag<float, 16>;  // a half block at most: each half has a sum of its own
constexpr std::size_t kHalf = 16;

/// Bits of the largest magnitude; as integers, magnitudes order like floats, infinity and NaN above all.
HWY_INLINE std::uint32_t largest_magnitude(const float* x) {
  const Block32 d;
  const hn::RebindToUnsigned<Block32> bits;
  auto largest = hn::Zero(bits);
  for (std::size_t i = 0; i < 2 * kHalf; i += hn::Lanes(d))
    largest = hn::Max(largest, hn::BitCast(bits, hn::Abs(hn::LoadU(d, x + i))));
  return hn::GetLane(hn::MaxOfLanes(bits, largest));
}

/// Rounds 16 values to int8 and returns their sum.
HWY_INLINE std::int32_t round_half(const float* x, float inverse, std::int8_t* q) {
  const Block32 d;
  const hn::RebindToSigned<Block32> integers;
  const hn::Rebind<std::int8_t, Block32> bytes;
  const auto factor = hn::Set(d, inverse);
  auto sum = hn::Zero(integers);
  for (std::size_t i = 0; i < kHalf; i += hn::Lanes(d)) {
    const auto rounded = hn::NearestInt(hn::Mul(hn::LoadU(d, x + i), factor));
    hn::StoreU(hn::DemoteTo(bytes, rounded), bytes, q + i);
    sum = hn::Add(sum, rounded);
  }
  return hn::GetLane(hn::SumOfLanes(integers, sum));
}

/// Scale and inverse scale of a block; inverse 0 where all its codes are 0.
struct Scale {
  float scale, inverse;
};
HWY_INLINE Scale scale_of(std::uint32_t magnitude) {
  if (magnitude >= 0x7f800000u) return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  float largest;
  std::memcpy(&largest, &magnitude, sizeof largest);
  const float scale = largest / 127.0f;
  return {scale, scale > 0x1p-100f ? 127.0f / largest : 0.0f};  // below, the inverse could overflow
}

/// Several blocks at a time, in three sweeps: each sweep's blocks overlap in the pipeline, where one block
/// after another would wait for its own reductions and divisions.
template <std::size_t blocks>
HWY_INLINE void quantize_blocks(const float* x, std::byte* to, std::size_t stride) {
  std::uint32_t magnitude[blocks];
  Scale scale[blocks];
  for (std::size_t b = 0; b < blocks; ++b) magnitude[b] = largest_magnitude(x + 32 * b);
  for (std::size_t b = 0; b < blocks; ++b) scale[b] = scale_of(magnitude[b]);
  for (std::size_t b = 0; b < blocks; ++b) {
    ActBlock& out = *reinterpret_cast<ActBlock*>(to + b * stride);
    std::int32_t low = 0, high = 0;
    if (scale[b].inverse > 0) {
      low = round_half(x + 32 * b, scale[b].inverse, out.q);
      high = round_half(x + 32 * b + kHalf, scale[b].inverse, out.q + kHalf);
    } else {
      std::memset(out.q, 0, sizeof out.q);
    }
    out.scale = scale[b].scale;
    out.sum = scale[b].scale * static_cast<float>(low + high);
    out.minus_sum = -(low + high);
    out.minus_half[0] = static_cast<std::int16_t>(-low);
    out.minus_half[1] = static_cast<std::int16_t>(-high);
  }
}

void QuantizeColumn(const float* x, std::size_t blocks, std::byte* out, std::size_t stride) {
  constexpr std::size_t kAtOnce = 8;
  std::size_t i = 0;
  for (; i + kAtOnce <= blocks; i += kAtOnce) quantize_blocks<kAtOnce>(x + 32 * i, out + i * stride, stride);
  for (; i < blocks; ++i) quantize_blocks<1>(x + 32 * i, out + i * stride, stride);
}

void QuantizationResidual(const float* x, std::size_t k, const std::byte* row, float* out) {
  const Block32 d;
  const hn::RebindToSigned<Block32> integers;
  const hn::Rebind<std::int8_t, Block32> bytes;
  for (std::size_t i = 0; i < k; i += 32, row += sizeof(ActBlock)) {
    const auto* block = reinterpret_cast<const ActBlock*>(row);
    const auto scale = hn::Set(d, block->scale);
    for (std::size_t j = 0; j < 32; j += hn::Lanes(d)) {
      const auto q = hn::ConvertTo(d, hn::PromoteTo(integers, hn::LoadU(bytes, block->q + j)));
      hn::StoreU(hn::Sub(hn::LoadU(d, x + i + j), hn::Mul(scale, q)), d, out + i + j);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(QuantizeColumn);
HWY_EXPORT(QuantizationResidual);

void quantize_column(const float* x, std::size_t blocks, std::byte* out, std::size_t stride) {
  HWY_DYNAMIC_DISPATCH(QuantizeColumn)(x, blocks, out, stride);
}
void quantize_row(const float* x, std::size_t k, std::byte* row) {
  quantize_column(x, k / 32, row, sizeof(ActBlock));
}
void quantization_residual(const float* x, std::size_t k, const std::byte* row, float* out) {
  HWY_DYNAMIC_DISPATCH(QuantizationResidual)(x, k, row, out);
}

}  // namespace metal_candle::simd
#endif
