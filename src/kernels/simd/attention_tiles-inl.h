// The inner product of attention for one SIMD target: C = A B or C += A B for a few rows of f32 A and a panel
// of cached keys or values B in any cache type. Knows no softmax and no mask. Included once per target.
#if defined(METAL_CANDLE_ATTENTION_TILES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef METAL_CANDLE_ATTENTION_TILES_INL
#undef METAL_CANDLE_ATTENTION_TILES_INL
#else
#define METAL_CANDLE_ATTENTION_TILES_INL
#endif

#include <cstddef>
#include <cstdint>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/attention_kv.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Lane16 = hn::CappedTag<float, 16>;  // never wider than a panel
using V16 = hn::Vec<Lane16>;
inline constexpr std::size_t kLanes = hn::MaxLanes(Lane16());
inline constexpr std::size_t kVectors = 16 / kLanes;  // a panel of 16 columns

// Accumulators that fit the registers beside B and the broadcast of A, and rows a tile has at most.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
inline constexpr std::size_t kAccumulators = 16, kTileRows = 8;
#elif HWY_TARGET == HWY_AVX2
inline constexpr std::size_t kAccumulators = 12, kTileRows = 6;
#elif HWY_TARGET == HWY_NEON
inline constexpr std::size_t kAccumulators = 24, kTileRows = 6;
#else
inline constexpr std::size_t kAccumulators = 8, kTileRows = 2;
#endif

/// How far ahead of the reads to ask for memory, which a lone pass over the cache (decoding) needs: the
/// hardware's own prefetch follows four streams of 64 bytes badly (20 instead of 40 GB/s).
inline constexpr std::size_t kAhead = 8192;  // bytes

/// Steps of B's layout in words of the cache type: element (x, y) of panel p with x even is at
/// p * panel + x / 2 * pair + y, and (x + 1, y) lies `odd` words further (bf16: in the same 32-bit word).
struct Steps {
  std::size_t panel, pair, odd;
};

template <KvType>
struct Cached;

template <>
struct Cached<KvType::f32> {
  using Word = float;
  static HWY_INLINE V16 even(const Word* p) { return hn::LoadU(Lane16(), p); }
  static HWY_INLINE void pair(const Word* p, std::size_t odd, V16& a, V16& b) {
    a = even(p);
    b = even(p + odd);
  }
};

template <>
struct Cached<KvType::f16> {
  using Word = std::uint16_t;
  static HWY_INLINE V16 even(const Word* p) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
    const hn::Rebind<hwy::float16_t, Lane16> d16;
    return hn::PromoteTo(Lane16(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
#else
    // The baseline has no conversion: as an f32 pattern the value is 2^112 too small. Infinity and NaN, whose
    // exponent is all ones, are set apart.
    const hn::RebindToUnsigned<Lane16> d;
    const auto h = hn::PromoteTo(d, hn::LoadU(hn::Rebind<std::uint16_t, Lane16>(), p));
    const auto bits = hn::ShiftLeft<13>(hn::And(h, hn::Set(d, 0x7fff)));
    const auto scaled =
        hn::BitCast(d, hn::Mul(hn::BitCast(Lane16(), bits), hn::Set(Lane16(), 5.192296858534828e33f)));
    const auto special = hn::Gt(bits, hn::Set(d, 0x7bffu << 13));
    const auto y = hn::IfThenElse(special, hn::Or(bits, hn::Set(d, 0x7f800000)), scaled);
    return hn::BitCast(Lane16(), hn::Or(y, hn::ShiftLeft<16>(hn::And(h, hn::Set(d, 0x8000)))));
#endif
  }
  static HWY_INLINE void pair(const Word* p, std::size_t odd, V16& a, V16& b) {
    a = even(p);
    b = even(p + odd);
  }
};

template <>
struct Cached<KvType::bf16> {
  using Word = std::uint32_t;  // two values; the even one in the low half
  static HWY_INLINE V16 even(const Word* p) {
    const hn::RebindToUnsigned<Lane16> d;
    return hn::BitCast(Lane16(), hn::ShiftLeft<16>(hn::LoadU(d, p)));
  }
  static HWY_INLINE void pair(const Word* p, std::size_t /*odd*/, V16& a, V16& b) {
    const hn::RebindToUnsigned<Lane16> d;
    const auto w = hn::LoadU(d, p);
    a = hn::BitCast(Lane16(), hn::ShiftLeft<16>(w));
    b = hn::BitCast(Lane16(), hn::And(w, hn::Set(d, 0xffff0000u)));
  }
};

template <>
struct Cached<KvType::int8> {  // codes; the caller applies the scales
  using Word = std::int8_t;
  static HWY_INLINE V16 even(const Word* p) {
    const hn::Rebind<std::int8_t, Lane16> d8;
    const hn::RebindToSigned<Lane16> d32;
    return hn::ConvertTo(Lane16(), hn::PromoteTo(d32, hn::LoadU(d8, p)));
  }
  static HWY_INLINE void pair(const Word* p, std::size_t odd, V16& a, V16& b) {
    a = even(p);
    b = even(p + odd);
  }
};

/// C[r][16p + c] = (add ? C : 0) + sum over x < depth of A[r][x] B(x, c) in panel p, for kRows rows and
/// kPanels panels; A and C have rows of kLead floats.
template <KvType kType, std::size_t kRows, std::size_t kPanels, std::size_t kLead>
void tile(const float* HWY_RESTRICT a, const typename Cached<kType>::Word* HWY_RESTRICT b, Steps steps,
          std::size_t depth, bool add, float* HWY_RESTRICT c) {
  constexpr std::size_t kCols = kPanels * kVectors;
  const Lane16 d;
  V16 acc[kRows][kCols];
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (std::size_t v = 0; v < kCols; ++v)
      acc[r][v] = add ? hn::LoadU(d, c + r * kLead + v * kLanes) : hn::Zero(d);
  }
  std::size_t x = 0;
  for (; x + 2 <= depth; x += 2, b += steps.pair) {
    V16 even[kCols], odd[kCols];
    HWY_UNROLL(8)
    for (std::size_t v = 0; v < kCols; ++v) {
      const auto* from = b + v / kVectors * steps.panel + v % kVectors * kLanes;
      hwy::Prefetch(from + kAhead / sizeof(*from));
      if (kType != KvType::bf16) hwy::Prefetch(from + steps.odd + kAhead / sizeof(*from));
      Cached<kType>::pair(from, steps.odd, even[v], odd[v]);
    }
    HWY_UNROLL(8)
    for (std::size_t r = 0; r < kRows; ++r) {
      const V16 a0 = hn::Set(d, a[r * kLead + x]), a1 = hn::Set(d, a[r * kLead + x + 1]);
      HWY_UNROLL(8)
      for (std::size_t v = 0; v < kCols; ++v) {
        acc[r][v] = hn::MulAdd(a1, odd[v], hn::MulAdd(a0, even[v], acc[r][v]));
      }
    }
  }
  if (x < depth) {  // the odd half is beyond the last key and may hold anything
    HWY_UNROLL(8)
    for (std::size_t v = 0; v < kCols; ++v) {
      const V16 even = Cached<kType>::even(b + v / kVectors * steps.panel + v % kVectors * kLanes);
      HWY_UNROLL(8)
      for (std::size_t r = 0; r < kRows; ++r) {
        acc[r][v] = hn::MulAdd(hn::Set(d, a[r * kLead + x]), even, acc[r][v]);
      }
    }
  }
  HWY_UNROLL(8)
  for (std::size_t r = 0; r < kRows; ++r) {
    HWY_UNROLL(8)
    for (std::size_t v = 0; v < kCols; ++v) hn::StoreU(acc[r][v], d, c + r * kLead + v * kLanes);
  }
}

/// Panels that a tile of kRows rows takes at once.
template <std::size_t kRows>
constexpr std::size_t panels_at_once() {
  constexpr std::size_t fit = kAccumulators / (kRows * kVectors);
  return fit >= 4 ? 4 : fit >= 2 ? 2 : 1;
}

template <KvType kType, std::size_t kRows, std::size_t kLead>
void all_panels(const float* a, const typename Cached<kType>::Word* b, Steps steps, std::size_t depth,
                std::size_t panels, bool add, float* c) {
  constexpr std::size_t kStep = panels_at_once<kRows>();
  std::size_t p = 0;
  for (; p + kStep <= panels; p += kStep) {
    tile<kType, kRows, kStep, kLead>(a, b + p * steps.panel, steps, depth, add, c + p * 16);
  }
  for (; p < panels; ++p) tile<kType, kRows, 1, kLead>(a, b + p * steps.panel, steps, depth, add, c + p * 16);
}

/// Tiles of kRows rows and a smaller last one.
template <KvType kType, std::size_t kLead, std::size_t kRows = kTileRows>
void all_rows(const float* a, const typename Cached<kType>::Word* b, Steps steps, std::size_t rows,
              std::size_t depth, std::size_t panels, bool add, float* c) {
  for (; rows >= kRows; rows -= kRows, a += kRows * kLead, c += kRows * kLead) {
    all_panels<kType, kRows, kLead>(a, b, steps, depth, panels, add, c);
  }
  if constexpr (kRows > 1) {
    if (rows > 0) all_rows<kType, kLead, kRows - 1>(a, b, steps, rows, depth, panels, add, c);
  }
}

/// The whole product. All rows pass over four panels before the next four: those stay in the first-level
/// cache.
template <KvType kType, std::size_t kLead>
void product(const float* a, const typename Cached<kType>::Word* b, Steps steps, std::size_t rows,
             std::size_t depth, std::size_t panels, bool add, float* c) {
  for (std::size_t p = 0; p < panels; p += 4) {
    const std::size_t count = panels - p < 4 ? panels - p : 4;
    all_rows<kType, kLead>(a, b + p * steps.panel, steps, rows, depth, count, add, c + p * 16);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();
#endif
