// Products of bfloat16 pairs as GemmKernel's: the packing and the loop are those of linear_bf16.h.
#include "kernels/simd/gemm_avx512.h"
#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/norm.h"

namespace metal_candle::simd {
namespace {

constexpr std::size_t kRows = 12, kColumns = 32;

std::size_t row_bytes(std::size_t k) { return 4 * bf16_pairs(k); }

void pack_a(const float* a, std::size_t stride, std::size_t count, std::size_t k, std::byte* out) {
  for (std::size_t i = 0; i < count; ++i)
    bf16_activations(a + i * stride, k, reinterpret_cast<std::uint8_t*>(out + i * row_bytes(k)));
}

void pack_b(const float* b, std::size_t k, std::byte* out) {
  bf16_expand(DType::f32, k, reinterpret_cast<const std::uint8_t*>(b), reinterpret_cast<std::uint8_t*>(out));
}

void product(const std::byte* a, std::size_t count, const std::byte* b, std::size_t k, float* c,
             std::size_t c_stride, std::size_t width, bool accumulate) {
  const bool direct = !accumulate && width == kColumns;
  alignas(64) float part[kRows * kColumns];
  bf16_product(DType::bf16, k, reinterpret_cast<const std::uint8_t*>(b),
               reinterpret_cast<const std::uint8_t*>(a), row_bytes(k), count, direct ? c : part,
               direct ? c_stride : kColumns);
  if (direct) return;
  if (accumulate) return add_rows(c, c_stride, part, kColumns, count, width);
  for (std::size_t i = 0; i < count; ++i) __builtin_memcpy(c + i * c_stride, part + i * kColumns, width * 4);
}

}  // namespace

const GemmKernel kGemmAvx512Bf16{kRows, kColumns, 2, 2, pack_a, pack_b, product};

}  // namespace metal_candle::simd
