#include "kernels/simd/gemm.h"

#include <hwy/cache_control.h>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/gemm.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

constexpr std::size_t kLanes = hn::MaxLanes(F32());
constexpr std::size_t kColumns = 2 * kLanes;
// Accumulators, two vectors of B and one broadcast of A fit the registers: 32 of 64 bytes and on Arm,
// else 16.
#if HWY_ARCH_ARM
constexpr int kRows = 12;
#else
constexpr int kRows = kLanes == 16 ? 12 : 6;
#endif

void Tile(GemmTile* out) { *out = {static_cast<std::size_t>(kRows), kColumns}; }

template <int rows>
void Product(const GemmRows& a, const float* HWY_RESTRICT b, std::size_t k, float* HWY_RESTRICT c,
             std::size_t c_stride, bool accumulate) {
  const F32 d;
  V32 low[rows], high[rows];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    low[i] = high[i] = hn::Zero(d);
    hwy::Prefetch(c + static_cast<std::size_t>(i) * c_stride);
    hwy::Prefetch(c + static_cast<std::size_t>(i) * c_stride + kLanes);
  }
  const float* HWY_RESTRICT at = a.data;
  const std::size_t step = a.k_stride, stride = a.row_stride;
  for (std::size_t p = 0; p < k; ++p, b += kColumns, at += step) {
    const V32 b0 = hn::LoadU(d, b), b1 = hn::LoadU(d, b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const V32 x = hn::Set(d, at[static_cast<std::size_t>(i) * stride]);
      low[i] = hn::MulAdd(x, b0, low[i]);
      high[i] = hn::MulAdd(x, b1, high[i]);
    }
  }
  if (accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const float* from = c + static_cast<std::size_t>(i) * c_stride;
      low[i] = hn::Add(low[i], hn::LoadU(d, from));
      high[i] = hn::Add(high[i], hn::LoadU(d, from + kLanes));
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    float* to = c + static_cast<std::size_t>(i) * c_stride;
    hn::StoreU(low[i], d, to);
    hn::StoreU(high[i], d, to + kLanes);
  }
}

void TileProduct(const GemmRows& a, std::size_t rows, const float* b, std::size_t k, float* c,
                 std::size_t c_stride, std::size_t columns, bool accumulate) {
  using Kernel = void (*)(const GemmRows&, const float*, std::size_t, float*, std::size_t, bool);
  static constexpr Kernel kKernels[] = {
    &Product<1>,
    &Product<2>,
    &Product<3>,
    &Product<4>,
    &Product<5>,
    &Product<6>,
#if HWY_ARCH_ARM || HWY_MAX_BYTES == 64
    &Product<7>,
    &Product<8>,
    &Product<9>,
    &Product<10>,
    &Product<11>,
    &Product<12>,
#endif
  };
  if (columns == kColumns) return kKernels[rows - 1](a, b, k, c, c_stride, accumulate);
  HWY_ALIGN float part[kRows * kColumns];
  kKernels[rows - 1](a, b, k, part, kColumns, false);
  for (std::size_t i = 0; i < rows; ++i, c += c_stride)
    for (std::size_t j = 0; j < columns; ++j)
      c[j] = accumulate ? c[j] + part[i * kColumns + j] : part[i * kColumns + j];
}

// 4 x 4 words at a time.
void PackTransposed(const float* const* rows, std::size_t count, std::size_t k, std::size_t width,
                    float* out) {
  std::size_t j = 0;
#if HWY_TARGET != HWY_SCALAR
  using D4 = hn::CappedTag<float, 4>;
  const D4 d;
  const std::size_t whole = k / 4 * 4;
  for (; j + 4 <= count && whole > 0; j += 4) {
    for (std::size_t p = 0; p < whole; p += 4) {
      const auto a0 = hn::LoadU(d, rows[j] + p), a1 = hn::LoadU(d, rows[j + 1] + p);
      const auto a2 = hn::LoadU(d, rows[j + 2] + p), a3 = hn::LoadU(d, rows[j + 3] + p);
      const hn::Repartition<double, D4> pairs;
      const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, a0, a1));
      const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, a2, a3));
      const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, a0, a1));
      const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, a2, a3));
      float* to = out + p * width + j;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, to + width);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, to + 2 * width);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, to + 3 * width);
    }
    for (std::size_t p = whole; p < k; ++p)
      for (std::size_t i = j; i < j + 4; ++i) out[p * width + i] = rows[i][p];
  }
#endif
  for (; j < width; ++j)
    for (std::size_t p = 0; p < k; ++p) out[p * width + j] = j < count ? rows[j][p] : 0.0f;
}

void RoundToBf16(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) {
    const hn::RebindToUnsigned<F32> du;
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
    const auto kept = hn::And(rounded, hn::Set(du, 0xffff0000u));
    return hn::IfThenElse(hn::IsNaN(v), v, hn::BitCast(F32(), kept));
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(Tile);
HWY_EXPORT(TileProduct);
HWY_EXPORT(PackTransposed);
HWY_EXPORT(RoundToBf16);

GemmTile gemm_tile() noexcept {
  GemmTile tile{};
  HWY_DYNAMIC_DISPATCH(Tile)(&tile);
  return tile;
}
void gemm_tile_product(const GemmRows& a, std::size_t rows, const float* b, std::size_t k, float* c,
                       std::size_t c_stride, std::size_t columns, bool accumulate) {
  HWY_DYNAMIC_DISPATCH(TileProduct)(a, rows, b, k, c, c_stride, columns, accumulate);
}
void gemm_pack_transposed(const float* const* rows, std::size_t count, std::size_t k, std::size_t width,
                          float* out) {
  HWY_DYNAMIC_DISPATCH(PackTransposed)(rows, count, k, width, out);
}
void round_to_bf16(const float* x, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(RoundToBf16)(x, n, out);
}

}  // namespace metal_candle::simd
#endif
