#include "kernels/simd/finite_copy.h"

#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/finite_copy.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kLine = 64;

// All bits of the exponent set: infinity or NaN.
template <class T>
bool copy(const std::byte* from, std::size_t bytes, std::byte* to, T exponent_bits) {
  const hn::CappedTag<T, kLine / sizeof(T)> d;
  const std::size_t step = hn::Lanes(d) * sizeof(T);
  const auto exponent = hn::Set(d, exponent_bits);
  auto found = hn::FirstN(d, 0);
  const auto line = [&](const std::byte* source, std::byte* target) HWY_ATTR {
    for (std::size_t i = 0; i < kLine; i += step) {
      const auto v = hn::LoadU(d, reinterpret_cast<const T*>(source + i));
      found = hn::Or(found, hn::Eq(hn::And(v, exponent), exponent));
      hn::Stream(v, d, reinterpret_cast<T*>(target + i));
    }
  };
  std::size_t i = 0;
  for (; i + kLine <= bytes; i += kLine) line(from + i, to + i);
  if (i < bytes) {
    alignas(kLine) std::byte rest[kLine] = {};
    std::memcpy(rest, from + i, bytes - i);
    line(rest, to + i);
  }
  hwy::FlushStream();  // before another thread is told of it
  return hn::AllFalse(d, found);
}

bool FiniteCopy(DType type, const std::byte* from, std::size_t bytes, std::byte* to) {
  if (type == DType::f32) return copy<std::uint32_t>(from, bytes, to, 0x7f800000u);
  return copy<std::uint16_t>(from, bytes, to, type == DType::f16 ? 0x7c00 : 0x7f80);
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(FiniteCopy);

bool finite_copy(DType type, const std::byte* from, std::size_t bytes, std::byte* to) {
  return HWY_DYNAMIC_DISPATCH(FiniteCopy)(type, from, bytes, to);
}

}  // namespace metal_candle::simd
#endif
