#include "kernels/simd/gemm.h"

#include <hwy/cache_control.h>

#include <cstring>

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

template <int rows>
void Rows(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, std::size_t k, float* HWY_RESTRICT c,
          std::size_t c_stride, bool accumulate) {
  const F32 d;
  V32 low[rows], high[rows];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    low[i] = high[i] = hn::Zero(d);
    hwy::Prefetch(c + static_cast<std::size_t>(i) * c_stride);
    hwy::Prefetch(c + static_cast<std::size_t>(i) * c_stride + kLanes);
  }
  for (std::size_t p = 0; p < k; ++p, b += kColumns) {
    const V32 b0 = hn::LoadU(d, b), b1 = hn::LoadU(d, b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const V32 x = hn::Set(d, a[static_cast<std::size_t>(i) * k + p]);
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

void Product(const std::byte* a_bytes, std::size_t rows, const std::byte* b_bytes, std::size_t k, float* c,
             std::size_t c_stride, std::size_t columns, bool accumulate) {
  const auto *a = reinterpret_cast<const float*>(a_bytes), *b = reinterpret_cast<const float*>(b_bytes);
  using Kernel = void (*)(const float*, const float*, std::size_t, float*, std::size_t, bool);
  static constexpr Kernel kKernels[] = {
    &Rows<1>,
    &Rows<2>,
    &Rows<3>,
    &Rows<4>,
    &Rows<5>,
    &Rows<6>,
#if HWY_ARCH_ARM || HWY_MAX_BYTES == 64
    &Rows<7>,
    &Rows<8>,
    &Rows<9>,
    &Rows<10>,
    &Rows<11>,
    &Rows<12>,
#endif
  };
  if (columns == kColumns) return kKernels[rows - 1](a, b, k, c, c_stride, accumulate);
  HWY_ALIGN float part[kRows * kColumns];
  kKernels[rows - 1](a, b, k, part, kColumns, false);
  for (std::size_t i = 0; i < rows; ++i, c += c_stride)
    for (std::size_t j = 0; j < columns; ++j)
      c[j] = accumulate ? c[j] + part[i * kColumns + j] : part[i * kColumns + j];
}

// 4 x 4 words at a time, in stretches of k whose results stay in L1 until their lines are whole.
void Transpose(const float* const* rows, std::size_t count, std::size_t k, std::size_t width, float* out) {
  std::size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  using D4 = hn::CappedTag<float, 4>;
  const D4 d;
  constexpr std::size_t kStretch = 64;
  const std::size_t whole = k / 4 * 4;
  if (whole > 0) done = count / 4 * 4;
  for (std::size_t first = 0; first < whole; first += kStretch) {
    const std::size_t last = HWY_MIN(first + kStretch, whole);
    for (std::size_t j = 0; j < done; j += 4) {
      for (std::size_t p = first; p < last; p += 4) {
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
    }
  }
  for (std::size_t p = whole; p < k; ++p)
    for (std::size_t j = 0; j < done; ++j) out[p * width + j] = rows[j][p];
#endif
  for (std::size_t j = done; j < width; ++j)
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

void PackRows(const float* a, std::size_t stride, std::size_t count, std::size_t k, std::byte* out) {
  for (std::size_t i = 0; i < count; ++i) std::memcpy(out + i * k * 4, a + i * stride, k * 4);
}

void PackRoundedRows(const float* a, std::size_t stride, std::size_t count, std::size_t k, std::byte* out) {
  for (std::size_t i = 0; i < count; ++i)
    RoundToBf16(a + i * stride, k, reinterpret_cast<float*>(out) + i * k);
}

void RoundPanel(const float* b, std::size_t k, std::byte* out) {
  RoundToBf16(b, k * kColumns, reinterpret_cast<float*>(out));
}

const GemmKernel* Kernel(bool rounded) {
  static constexpr GemmKernel kF32{kRows, kColumns, 4, 4, PackRows, nullptr, Product};
  static constexpr GemmKernel kRounded{kRows, kColumns, 4, 4, PackRoundedRows, RoundPanel, Product};
  return rounded ? &kRounded : &kF32;
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/simd/gemm_avx512.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
HWY_EXPORT(Kernel);
HWY_EXPORT(Transpose);

const GemmKernel& gemm_f32() noexcept { return *HWY_DYNAMIC_DISPATCH(Kernel)(false); }

const GemmKernel& gemm_half() noexcept {
#if defined(__x86_64__)
  if (active_target() == SimdTarget::avx512_bf16) return kGemmAvx512Bf16;
  if (active_target() == SimdTarget::avx512_fp16) return kGemmAvx512Fp16;
#endif
  return *HWY_DYNAMIC_DISPATCH(Kernel)(true);
}

void gemm_transpose(const float* const* rows, std::size_t count, std::size_t k, std::size_t width,
                    float* out) {
  HWY_DYNAMIC_DISPATCH(Transpose)(rows, count, k, width, out);
}

}  // namespace metal_candle::simd
#endif
