#include "kernels/simd/quantize_row.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

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
constexpr std::size_t kBatch = 16;        // blocks
constexpr float kLeastScale = 0x1p-100f;  // below, the inverse could overflow

#if HWY_TARGET == HWY_SCALAR

template <std::size_t blocks>
void find_scales(const float* x, float* scale, float* inverse) {
  for (std::size_t b = 0; b < blocks; ++b) {
    std::uint32_t largest = 0;  // as integers, magnitudes order like floats, NaN above all
    for (std::size_t i = 32 * b; i < 32 * (b + 1); ++i)
      largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
    const auto most = std::bit_cast<float>(largest);
    scale[b] = most / 127.0f + (most - most);  // NaN of infinity and NaN
    inverse[b] = scale[b] > kLeastScale ? 127.0f / most : 0.0f;
  }
}

template <std::size_t blocks>
void round(const float* x, const float* scale, const float* inverse, std::byte* to, std::size_t stride) {
  for (std::size_t b = 0; b < blocks; ++b) {
    ActBlock& out = *reinterpret_cast<ActBlock*>(to + b * stride);
    std::int32_t sums[2] = {};
    for (std::size_t i = 0; i < 2 * kHalf; ++i) {
      out.q[i] = static_cast<std::int8_t>(std::bit_cast<std::uint32_t>(x[32 * b + i] * inverse[b] + kMagic));
      sums[i / kHalf] += out.q[i];
    }
    out.scale = scale[b];
    out.sum = scale[b] * static_cast<float>(sums[0] + sums[1]);
    out.start = kMagicBits - kWideOffset * (sums[0] + sums[1]);
    for (int half = 0; half < 2; ++half) out.minus_half[half] = static_cast<std::int16_t>(-sums[half]);
  }
}

#else

/// One vector of four from one of more: op of all its parts.
template <class D, class V, class Op>
HWY_INLINE hn::Vec<hn::FixedTag<hn::TFromD<D>, 4> > fold(D d, V v, const Op& op) {
  if constexpr (hn::MaxLanes(d) == 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return fold(half, op(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), op);
  }
}

/// op of all lanes of each of four vectors. Transposing first, they share all steps but the first.
template <class D, class V, class Op>
HWY_INLINE hn::Vec<hn::FixedTag<hn::TFromD<D>, 4> > reduce(D d, const V (&v)[4], const Op& op) {
  const hn::RepartitionToWide<D> pairs;
  const auto merge = [&](V a, V b)
                         HWY_ATTR { return op(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)); };
  const auto ab = hn::BitCast(pairs, merge(v[0], v[1])), cd = hn::BitCast(pairs, merge(v[2], v[3]));
  return fold(d,
              op(hn::BitCast(d, hn::InterleaveLower(pairs, ab, cd)),
                 hn::BitCast(d, hn::InterleaveUpper(pairs, ab, cd))),
              op);
}

/// Scales of 1 or 4 blocks, and their inverses, to arrays of four.
template <std::size_t blocks>
HWY_INLINE void find_scales(const float* x, float* scale, float* inverse) {
  const Block32 d;
  const hn::RebindToUnsigned<Block32> bits;  // as integers, magnitudes order like floats, NaN above all
  hn::Vec<decltype(bits)> largest[4];
  for (std::size_t b = 0; b < 4; ++b) {
    largest[b] = hn::Zero(bits);
    for (std::size_t i = 0; b < blocks && i < 2 * kHalf; i += hn::Lanes(d))
      largest[b] = hn::Max(largest[b], hn::BitCast(bits, hn::Abs(hn::LoadU(d, x + 32 * b + i))));
  }
  const hn::FixedTag<float, 4> four;
  const auto max = [](auto u, auto v) HWY_ATTR { return hn::Max(u, v); };
  const auto most = hn::BitCast(four, reduce(bits, largest, max));
  const auto full = hn::Set(four, 127.0f);
  const auto s = hn::Add(hn::Div(most, full), hn::Sub(most, most));  // NaN of infinity and NaN
  hn::StoreU(s, four, scale);
  hn::StoreU(hn::IfThenElseZero(hn::Gt(s, hn::Set(four, kLeastScale)), hn::Div(full, most)), four, inverse);
}

/// Rounds by adding a float so large that it counts in ones: the low byte of its bits is then the code.
template <std::size_t blocks>
HWY_INLINE void round(const float* x, const float* scale, const float* inverse, std::byte* to,
                      std::size_t stride) {
  const Block32 d;
  const hn::RebindToUnsigned<Block32> bits;
  const hn::RebindToSigned<Block32> integers;
  const hn::Rebind<std::uint8_t, Block32> bytes;
  hn::Vec<decltype(integers)> sums[2][4];
  for (std::size_t b = 0; b < 4; ++b) {
    auto* q = reinterpret_cast<std::uint8_t*>(to + b * stride) + offsetof(ActBlock, q);
    for (std::size_t half = 0; half < 2; ++half) {
      auto& sum = sums[half][b] = hn::Zero(integers);
      for (std::size_t i = half * kHalf; b < blocks && i < (half + 1) * kHalf; i += hn::Lanes(d)) {
        const auto scaled = hn::Mul(hn::LoadU(d, x + 32 * b + i), hn::Set(d, inverse[b]));
        const auto rounded = hn::Add(scaled, hn::Set(d, kMagic));
        hn::StoreU(hn::TruncateTo(bytes, hn::BitCast(bits, rounded)), bytes, q + i);
        sum = hn::Add(sum, hn::BitCast(integers, rounded));
      }
    }
  }
  const hn::FixedTag<float, 4> four;
  const hn::FixedTag<std::int32_t, 4> ints;
  const auto add = [](auto u, auto v) HWY_ATTR { return hn::Add(u, v); };
  const auto too_much = hn::Set(ints, static_cast<std::int32_t>(std::uint32_t{kHalf} * kMagicBits));
  const auto low = hn::Sub(reduce(integers, sums[0], add), too_much);
  const auto high = hn::Sub(reduce(integers, sums[1], add), too_much);
  const auto both = hn::Add(low, high);
  float sum[4];
  std::int32_t start[4], minus_halves[4];
  hn::StoreU(hn::Mul(hn::LoadU(four, scale), hn::ConvertTo(four, both)), four, sum);
  hn::StoreU(hn::Sub(hn::Set(ints, kMagicBits), hn::Mul(both, hn::Set(ints, kWideOffset))), ints, start);
  const auto low_bits = hn::And(hn::Neg(low), hn::Set(ints, 0xffff));
  hn::StoreU(hn::Or(low_bits, hn::ShiftLeft<16>(hn::Neg(high))), ints, minus_halves);
  for (std::size_t b = 0; b < blocks; ++b) {
    ActBlock& out = *reinterpret_cast<ActBlock*>(to + b * stride);
    out.scale = scale[b];
    out.sum = sum[b];
    out.start = start[b];
    std::memcpy(out.minus_half, &minus_halves[b], sizeof out.minus_half);
  }
}

#endif

/// First the scales of a batch, then its codes: a block's codes wait for its scale long enough to fill the
/// pipeline.
template <std::size_t at_once>
HWY_INLINE void quantize_batch(const float* x, std::size_t blocks, std::byte* out, std::size_t stride) {
  float scale[kBatch], inverse[kBatch];
  for (std::size_t b = 0; b < blocks; b += at_once) find_scales<at_once>(x + 32 * b, scale + b, inverse + b);
  for (std::size_t b = 0; b < blocks; b += at_once)
    round<at_once>(x + 32 * b, scale + b, inverse + b, out + b * stride, stride);
}

void QuantizeColumn(const float* x, std::size_t blocks, std::byte* out, std::size_t stride) {
  while (blocks > 0) {
    const std::size_t n = blocks < 4 ? 1 : std::min(kBatch, blocks / 4 * 4);
    n == 1 ? quantize_batch<1>(x, n, out, stride) : quantize_batch<4>(x, n, out, stride);
    x += 32 * n, out += n * stride, blocks -= n;
  }
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
