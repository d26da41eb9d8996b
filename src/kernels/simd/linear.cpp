// Dispatch of the linear kernels to the active target; the products themselves are in linear_kernel.h.
#include "kernels/simd/linear.h"

#include <cstring>
#include <vector>

#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/linear_targets.h"
#include "kernels/simd/quantize_row.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
namespace {

const LinearTable& table() noexcept {
#if defined(__x86_64__)
  switch (active_target()) {
    case SimdTarget::avx512_bf16:
    case SimdTarget::avx512_fp16:
    case SimdTarget::avx512_vnni: return kLinearAvx512Vnni;
    case SimdTarget::avx512: return kLinearAvx512;
    case SimdTarget::avx2_vnni: return kLinearAvx2Vnni;
    case SimdTarget::avx2: return kLinearAvx2;
    default: break;
  }
#elif defined(__ARM_FEATURE_DOTPROD)
  if (active_target() == SimdTarget::neon) return kLinearNeon;
#endif
  return kLinearScalar;
}

#if defined(__x86_64__)
bool multiplies_bf16() noexcept { return active_target() == SimdTarget::avx512_bf16; }
bool multiplies_f16() noexcept { return active_target() == SimdTarget::avx512_fp16; }
#else
constexpr bool multiplies_bf16() noexcept { return false; }
constexpr bool multiplies_f16() noexcept { return false; }
#endif

bool quantized(const WeightFormat& weight) noexcept { return weight.bits != 0 || is_quantized(weight.type); }

const std::uint8_t* bytes(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }

/// One widened tile, kept by each thread.
std::uint8_t* scratch(std::size_t size) {
  thread_local std::vector<std::uint8_t> buffer;
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

#if defined(__x86_64__)
/// Rows of which a sum left float16's range are left to `exact(row)`.
template <class Exact>
void half_tile(DType type, std::size_t k, const std::byte* tile, const std::byte* acts,
               std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride,
               const Exact& exact) {
  half_product(type, k, bytes(tile), 1, reinterpret_cast<const std::uint16_t*>(acts + sizeof(float)),
               acts_stride / sizeof(std::uint16_t), rows, out, out_stride);
  for (std::size_t r = 0; r < rows; ++r) {
    float down;
    std::memcpy(&down, acts + r * acts_stride, sizeof down);
    if (!half_rescale(out + r * out_stride, down / kHalfDown)) exact(r);
  }
}
#endif

}  // namespace

std::size_t activation_row_bytes(const WeightFormat& weight, std::size_t k) {
  if (quantized(weight)) return k / 32 * sizeof(ActBlock);
  const bool halves = multiplies_f16() || multiplies_bf16();
  return halves ? whole_lines(half_row_offset(k) + half_row_bytes(k)) : k * sizeof(float);
}

bool same_activations(const WeightFormat& a, const WeightFormat& b) noexcept {
  return quantized(a) == quantized(b);
}

void prepare_activations(const WeightFormat& weight, const float* x, std::size_t k, std::byte* out_row) {
  if (quantized(weight)) return quantize_row(x, k, out_row);
  std::memcpy(out_row, x, k * sizeof(float));
#if defined(__x86_64__)
  if (multiplies_bf16()) bf16_row(x, k, out_row + half_row_offset(k));
  if (multiplies_f16()) half_row(x, k, out_row + half_row_offset(k));
#endif
}

void linear_tile(const WeightFormat& weight, std::size_t k, const std::byte* tile, const std::byte* acts,
                 std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride,
                 DenseProducts products, const SumStart& start) {
  const LinearTable& t = table();
  if (quantized(weight)) {
    if (rows <= t.max_packed_rows) {
      return t.packed(weight, k, bytes(tile), bytes(acts), acts_stride, rows, out, out_stride);
    }
    std::uint8_t* expanded = scratch(k / 32 * kMaxExpandedBlockBytes);
    t.expand(weight, k, bytes(tile), expanded);
    return t.expanded(weight, k, expanded, bytes(acts), acts_stride, rows, out, out_stride);
  }
#if defined(__x86_64__)
  if (products == DenseProducts::half && multiplies_bf16()) {
    const std::uint8_t* halves = bytes(acts) + half_row_offset(k) + sizeof(float);
    if (weight.type != DType::bf16 && rows >= kBf16ExpandRows) {
      std::uint8_t* rounded = scratch(128 * bf16_pairs(k));
      bf16_expand(weight.type, k, bytes(tile), rounded);
      return bf16_product(DType::bf16, k, rounded, halves, acts_stride, rows, out, out_stride);
    }
    return bf16_product(weight.type, k, bytes(tile), halves, acts_stride, rows, out, out_stride);
  }
  if (products == DenseProducts::half && multiplies_f16() && weight.type != DType::f32) {
    const std::byte* half = acts + half_row_offset(k);
    return half_tile(weight.type, k, tile, half, acts_stride, rows, out, out_stride, [&](std::size_t r) {
      t.dense(weight, k, bytes(tile), bytes(acts) + r * acts_stride, acts_stride, 1, out + r * out_stride,
              out_stride, {});
    });
  }
#endif
  (void)products;
  t.dense(weight, k, bytes(tile), bytes(acts), acts_stride, rows, out, out_stride, start);
}

}  // namespace metal_candle::simd
