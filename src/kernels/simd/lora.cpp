#include "kernels/simd/lora.h"

#include <algorithm>
#include <cstdint>

#include "kernels/simd/inline.h"
#include "kernels/simd/lora_half.h"
#include "kernels/simd/target.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/lora.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

// As many accumulators as the target has registers for.
constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3;
constexpr std::size_t kManyRows = kManyRegisters ? 8 : 4;

struct F32Elements {
  using T = float;
  static HWY_INLINE V32 load(const T* p) { return hn::LoadU(F32(), p); }
};
struct F16Elements {
  using T = hwy::float16_t;
  static HWY_INLINE V32 load(const T* p) {
    const hn::Rebind<hwy::float16_t, F32> half;
    return hn::PromoteTo(F32(), hn::LoadU(half, p));
  }
};
struct Bf16Elements {
  using T = std::uint16_t;
  static HWY_INLINE V32 load(const T* p) {
    const hn::RebindToUnsigned<F32> du;
    const hn::Rebind<std::uint16_t, F32> half;
    return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(half, p))));
  }
};

// The first `count` < lanes elements, the others zero. Reads nothing beyond.
template <class E>
HWY_INLINE V32 load_tail(const typename E::T* p, std::size_t count) {
  typename E::T part[hn::MaxLanes(F32())];
  std::memset(static_cast<void*>(part), 0, sizeof part);
  std::memcpy(static_cast<void*>(part), static_cast<const void*>(p), count * sizeof(typename E::T));
  return E::load(part);
}

// Prefetches nothing. GCC drops calls of functions that only prefetch, so such lambdas are forced inline.
constexpr auto kNoPrefetch = [](std::size_t) MC_LAMBDA_INLINE {};

// R rows times J rows of A, one accumulator each: whatever R and J are, each sum runs in the same order.
// `prefetch(k)`: called before A is read at column k.
template <class E, std::size_t R, std::size_t J, class Prefetch>
HWY_INLINE void shrink_block(const typename E::T* a, std::size_t columns, const float* x,
                             std::size_t x_stride, float* out, std::size_t out_stride,
                             const Prefetch& prefetch) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  V32 sum[R][J];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t j = 0; j < J; ++j) sum[r][j] = hn::Zero(d);
  std::size_t k = 0;
  for (; k + lanes <= columns; k += lanes) {
    V32 w[J];
    prefetch(k);
    for (std::size_t j = 0; j < J; ++j) w[j] = E::load(a + j * columns + k);
    for (std::size_t r = 0; r < R; ++r) {
      const V32 v = hn::LoadU(d, x + r * x_stride + k);
      for (std::size_t j = 0; j < J; ++j) sum[r][j] = hn::MulAdd(v, w[j], sum[r][j]);
    }
  }
  if (k < columns) {
    for (std::size_t j = 0; j < J; ++j) {
      const V32 w = load_tail<E>(a + j * columns + k, columns - k);
      for (std::size_t r = 0; r < R; ++r)
        sum[r][j] = hn::MulAdd(load_part(x + r * x_stride + k, columns - k, 0), w, sum[r][j]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t j = 0; j < J; ++j) out[r * out_stride + j] = sum_lanes(sum[r][j]);
}

template <class E, std::size_t R, std::size_t J>
void shrink_rows(const typename E::T* a, std::size_t rank, std::size_t columns, const float* x,
                 std::size_t x_stride, float* out, std::size_t out_stride) {
  std::size_t j = 0;
  for (; j + J <= rank; j += J)
    shrink_block<E, R, J>(a + j * columns, columns, x, x_stride, out + j, out_stride, kNoPrefetch);
  if constexpr (J > 1)
    shrink_rows<E, R, J / 2>(a + j * columns, rank - j, columns, x, x_stride, out + j, out_stride);
}

// shrink_rows<E, 1, J>() with an eye to memory.
template <class E, std::size_t J>
void shrink_one(const typename E::T* a, std::size_t rank, std::size_t columns, const float* x, float* out,
                const LinesToCome& next) {
  constexpr std::size_t kLine = 64 / sizeof(typename E::T), kLines = kLinesAhead / J;
  const std::size_t row_bytes = columns * sizeof(typename E::T);
  for (; rank >= J; rank -= J, a += J * columns, out += J) {
    LinesToCome then{reinterpret_cast<const std::byte*>(a + J * columns), rank >= 2 * J ? J : 1, row_bytes};
    if (rank == J) then = next;
    if (then.rows != J) then.stride = kLines * 64;  // what comes first, at any rate
    shrink_block<E, 1, J>(a, columns, x, columns, out, J, [&](std::size_t k) MC_LAMBDA_INLINE {
      if (k % kLine != 0) return;
      const std::size_t at = k + kLines * kLine;
      for (std::size_t j = 0; j < J; ++j) {
        if (at < columns)
          fetch_line(a + j * columns + at);
        else
          then.prefetch(j, (at - columns) / kLine);
      }
    });
  }
  if constexpr (J > 1)
    if (rank > 0) shrink_one<E, J / 2>(a, rank, columns, x, out, next);
}

template <class E>
void shrink(const std::byte* a_bytes, std::size_t rank, std::size_t columns, const float* x,
            std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride) {
  const auto* a = reinterpret_cast<const typename E::T*>(a_bytes);
  std::size_t i = 0;
  for (; kManyRegisters && i + 6 <= rows; i += 6)
    shrink_rows<E, 6, 4>(a, rank, columns, x + i * x_stride, x_stride, out + i * out_stride, out_stride);
  for (; i + 4 <= rows; i += 4)
    shrink_rows<E, 4, 4>(a, rank, columns, x + i * x_stride, x_stride, out + i * out_stride, out_stride);
  for (; i < rows; ++i)
    shrink_rows<E, 1, kMostTogether>(a, rank, columns, x + i * x_stride, x_stride, out + i * out_stride,
                                     out_stride);
}

// R rows times V vectors of columns; each output sums over the rank in order. `prefetch(j)`: called before B
// is read at rank j.
template <class E, std::size_t R, std::size_t V, class Prefetch>
HWY_INLINE void expand_block(const typename E::T* b, std::size_t b_stride, std::size_t rank, const float* t,
                             std::size_t t_stride, float* y, std::size_t y_stride, const Prefetch& prefetch) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  V32 sum[R][V];
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t v = 0; v < V; ++v) sum[r][v] = hn::Zero(d);
  for (std::size_t j = 0; j < rank; ++j) {
    prefetch(j);
    V32 w[V];
    for (std::size_t v = 0; v < V; ++v) w[v] = E::load(b + j * b_stride + v * lanes);
    for (std::size_t r = 0; r < R; ++r) {
      const V32 factor = hn::Set(d, t[r * t_stride + j]);
      for (std::size_t v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(factor, w[v], sum[r][v]);
    }
  }
  for (std::size_t r = 0; r < R; ++r)
    for (std::size_t v = 0; v < V; ++v) {
      float* at = y + r * y_stride + v * lanes;
      hn::StoreU(hn::Add(hn::LoadU(d, at), sum[r][v]), d, at);
    }
}

template <class E, std::size_t R, class Prefetch>
HWY_INLINE void expand_rows(const typename E::T* b, std::size_t b_stride, std::size_t rank, const float* t,
                            std::size_t t_stride, std::size_t columns, float* y, std::size_t y_stride,
                            const Prefetch& prefetch) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t c = 0;
  for (; c + 2 * lanes <= columns; c += 2 * lanes)
    expand_block<E, R, 2>(b + c, b_stride, rank, t, t_stride, y + c, y_stride, prefetch);
  for (; c + lanes <= columns; c += lanes)
    expand_block<E, R, 1>(b + c, b_stride, rank, t, t_stride, y + c, y_stride, prefetch);
  if (c == columns) return;
  const std::size_t rest = columns - c;
  for (std::size_t r = 0; r < R; ++r) {
    V32 sum = hn::Zero(d);
    for (std::size_t j = 0; j < rank; ++j)
      sum = hn::MulAdd(hn::Set(d, t[r * t_stride + j]), load_tail<E>(b + j * b_stride + c, rest), sum);
    float* at = y + r * y_stride + c;
    store_part(hn::Add(load_part(at, rest, 0), sum), at, rest);
  }
}

template <class E>
void expand(const std::byte* b_bytes, std::size_t b_stride, std::size_t rank, const float* t,
            std::size_t t_stride, std::size_t rows, std::size_t columns, float* y, std::size_t y_stride) {
  const auto* b = reinterpret_cast<const typename E::T*>(b_bytes);
  std::size_t i = 0;
  for (; i + kManyRows <= rows; i += kManyRows)
    expand_rows<E, kManyRows>(b, b_stride, rank, t + i * t_stride, t_stride, columns, y + i * y_stride,
                              y_stride, kNoPrefetch);
  for (; i + 4 <= rows; i += 4)
    expand_rows<E, 4>(b, b_stride, rank, t + i * t_stride, t_stride, columns, y + i * y_stride, y_stride,
                      kNoPrefetch);
  for (; i < rows; ++i)
    expand_rows<E, 1>(b, b_stride, rank, t + i * t_stride, t_stride, columns, y + i * y_stride, y_stride,
                      kNoPrefetch);
}

template <class E>
void expand_tiles(const std::byte* b, std::size_t rank, const float* t, std::size_t columns, float* y) {
  constexpr std::size_t kTile = 32, kStep = kTile * sizeof(typename E::T);
  const std::byte* last = b + (columns + kTile - 1) / kTile * rank * kStep - 1;
  for (std::size_t c = 0; c < columns; c += kTile, b += rank * kStep) {
    const auto prefetch = [&](std::size_t j) MC_LAMBDA_INLINE {
      for (std::size_t i = 0; i < kStep; i += 64)
        fetch_line(std::min(b + j * kStep + i + kLinesAhead * 64, last));
    };
    expand_rows<E, 1>(reinterpret_cast<const typename E::T*>(b), kTile, rank, t, rank,
                      std::min(kTile, columns - c), y + c, kTile, prefetch);
  }
}

// f(E()) for the elements of this type.
template <class F>
void with_elements(DType type, const F& f) {
  type == DType::f32 ? f(F32Elements()) : type == DType::f16 ? f(F16Elements()) : f(Bf16Elements());
}

void Shrink(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const float* x,
            std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride) {
  with_elements(type,
                [&](auto e) { shrink<decltype(e)>(a, rank, columns, x, x_stride, rows, out, out_stride); });
}

void ShrinkOne(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const float* x,
               float* out, const LinesToCome& next) {
  with_elements(type, [&](auto e) {
    using E = decltype(e);
    shrink_one<E, kMostTogether>(reinterpret_cast<const typename E::T*>(a), rank, columns, x, out, next);
  });
}

void Expand(DType type, const std::byte* b, std::size_t b_stride, std::size_t rank, const float* t,
            std::size_t t_stride, std::size_t rows, std::size_t columns, float* y, std::size_t y_stride) {
  with_elements(
      type, [&](auto e) { expand<decltype(e)>(b, b_stride, rank, t, t_stride, rows, columns, y, y_stride); });
}

void ExpandTiles(DType type, const std::byte* b, std::size_t rank, const float* t, std::size_t columns,
                 float* y) {
  with_elements(type, [&](auto e) { expand_tiles<decltype(e)>(b, rank, t, columns, y); });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(Shrink);
HWY_EXPORT(ShrinkOne);
HWY_EXPORT(Expand);
HWY_EXPORT(ExpandTiles);

const LoraHalf* lora_half() noexcept {
#if defined(__x86_64__)
  if (active_target() == SimdTarget::avx512_bf16) return &kLoraAvx512Bf16;
  if (active_target() == SimdTarget::avx512_fp16) return &kLoraAvx512Fp16;
#endif
  return nullptr;
}

bool lora_supports(DType type) noexcept {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

void lora_shrink(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const float* x,
                 std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride) {
  HWY_DYNAMIC_DISPATCH(Shrink)(type, a, rank, columns, x, x_stride, rows, out, out_stride);
}
void lora_shrink_one(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const float* x,
                     float* out, const LinesToCome& next) {
  HWY_DYNAMIC_DISPATCH(ShrinkOne)(type, a, rank, columns, x, out, next);
}
LinesToCome lora_shrink_begin(DType type, const std::byte* a, std::size_t rank, std::size_t columns) {
  std::size_t together = kMostTogether;
  while (together > 1 && together > rank) together /= 2;
  return {a, together, columns * block_bytes(type)};
}

void lora_expand(DType type, const std::byte* b, std::size_t b_stride, std::size_t rank, const float* t,
                 std::size_t t_stride, std::size_t rows, std::size_t columns, float* y,
                 std::size_t y_stride) {
  HWY_DYNAMIC_DISPATCH(Expand)(type, b, b_stride, rank, t, t_stride, rows, columns, y, y_stride);
}
void lora_expand_tiles(DType type, const std::byte* b, std::size_t rank, const float* t, std::size_t columns,
                       float* y) {
  HWY_DYNAMIC_DISPATCH(ExpandTiles)(type, b, rank, t, columns, y);
}

}  // namespace metal_candle::simd
#endif
