#include "kernels/simd/dequantize.h"

#include <cstring>
#include <string>

#include "kernels/simd/dequantize_values.h"
#include "kernels/simd/quant_formats.h"
#include "metal_candle/error.h"

namespace metal_candle::simd {
namespace {

template <class Stored, class Convert>
void convert_each(const std::byte* src, float* dst, std::size_t elements, Convert convert) {
  for (std::size_t i = 0; i < elements; ++i) {
    Stored v;
    std::memcpy(&v, src + i * sizeof v, sizeof v);
    dst[i] = convert(v);
  }
}

template <DType type>
void dequantize_blocks(const std::byte* src, float* dst, std::size_t elements) {
  using T = QuantTraits<type>;
  constexpr std::size_t kTogether = 8;  // parts of 32 elements: one call for their arithmetic
  const std::size_t bytes = block_bytes(type);
  const std::uint8_t* p = reinterpret_cast<const std::uint8_t*>(src);
  int sub = 0;
  for (std::size_t left = elements / 32; left > 0;) {
    const std::size_t parts = left < kTogether ? left : kTogether;
    std::uint8_t codes[32 * kTogether] = {};
    Affine affine[2 * kTogether];
    for (std::size_t i = 0; i < parts; ++i) {
      RawScales raw;
      read_block<type>(p, sub, codes + 32 * i, raw);
      for (int g = 0; g < T::kGroups; ++g) affine[T::kGroups * i + g] = group_affine<type>(raw, g);
      if (++sub == T::kSubBlocks) sub = 0, p += bytes;
    }
    code_values(codes, T::kOffset, affine, T::kGroups * parts, 32 / T::kGroups, T::kHasMin, dst);
    dst += 32 * parts;
    left -= parts;
  }
}

}  // namespace

bool can_dequantize(DType type) noexcept {
  return type == DType::f32 || type == DType::f16 || type == DType::bf16 || type == DType::f64 ||
         is_quantized(type);
}

void dequantize(DType type, const std::byte* src, float* dst, std::size_t elements) {
  switch (type) {
    case DType::f32: std::memcpy(dst, src, elements * sizeof(float)); return;
    case DType::f16: return convert_each<std::uint16_t>(src, dst, elements, f16_to_float);
    case DType::bf16: return convert_each<std::uint16_t>(src, dst, elements, bf16_to_float);
    case DType::f64:
      return convert_each<double>(src, dst, elements, [](double v) { return static_cast<float>(v); });
    default: break;
  }
  if (!visit_quantized(type, [&](auto traits) { dequantize_blocks<traits.kType>(src, dst, elements); })) {
    throw Error(ErrorCode::unsupported,
                "elements of type " + std::string(metal_candle::name(type)) +
                    " are not floats; only floating-point and quantized tensors can be");
  }
}

}  // namespace metal_candle::simd
