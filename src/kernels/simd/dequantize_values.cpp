#include "kernels/simd/dequantize_values.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/dequantize_values.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void CodeValues(const std::uint8_t* codes, int offset, const Affine* affine, std::size_t groups,
                std::size_t size, bool has_min, float* out) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<std::uint8_t, decltype(d)> bytes;
  const auto zero = hn::Set(di, offset);
  for (std::size_t g = 0; g < groups; ++g) {
    const auto scale = hn::Set(d, affine[g].scale), min = hn::Set(d, affine[g].min);
    for (std::size_t i = 0; i < size; i += hn::Lanes(d), codes += hn::Lanes(d), out += hn::Lanes(d)) {
      const auto code = hn::ConvertTo(d, hn::Sub(hn::PromoteTo(di, hn::LoadU(bytes, codes)), zero));
      const auto product = hn::Mul(code, scale);
      hn::StoreU(has_min ? hn::Add(product, min) : product, d, out);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(CodeValues);

void code_values(const std::uint8_t* codes, int offset, const Affine* affine, std::size_t groups,
                 std::size_t size, bool has_min, float* out) {
  HWY_DYNAMIC_DISPATCH(CodeValues)(codes, offset, affine, groups, size, has_min, out);
}

}  // namespace metal_candle::simd
#endif
