// Dispatch of the linear kernels to the active target; the products themselves are in linear_kernel.h.
#include "kernels/simd/linear.h"

#include <cstring>
#include <vector>

#include "kernels/simd/linear_layout.h"
#include "kernels/simd/linear_targets.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {
namespace {

const LinearTable& table() noexcept {
#if defined(__x86_64__)
  switch (active_target()) {
    case SimdTarget::avx512_bf16: return kLinearAvx512Vnni;
    case SimdTarget::avx512_vnni: return kLinearAvx512Vnni;
    case SimdTarget::avx512: return kLinearAvx512;
    case SimdTarget::avx2: return kLinearAvx2;
    default: break;
  }
#elif defined(__ARM_FEATURE_DOTPROD)
  if (active_target() == SimdTarget::neon) return kLinearNeon;
#endif
  return kLinearScalar;
}

const std::uint8_t* bytes(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }

/// One expanded tile, kept by each thread: at most 36 bytes an input and output pair of a long prompt.
std::uint8_t* scratch(std::size_t size) {
  thread_local std::vector<std::uint8_t> buffer;
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

}  // namespace

std::size_t activation_row_bytes(DType weight, std::size_t k) {
  return is_quantized(weight) ? k / 32 * sizeof(ActBlock) : k * sizeof(float);
}

bool same_activations(DType a, DType b) noexcept { return is_quantized(a) == is_quantized(b); }

void prepare_activations(DType weight, const float* x, std::size_t k, std::byte* out_row) {
  if (is_quantized(weight)) {
    table().quantize_activations(x, k, reinterpret_cast<std::uint8_t*>(out_row));
  } else {
    std::memcpy(out_row, x, k * sizeof(float));
  }
}

void linear_tile(DType weight, std::size_t k, const std::byte* tile, const std::byte* acts,
                 std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride) {
  const LinearTable& t = table();
  if (!is_quantized(weight) || rows <= t.max_packed_rows) {
    return t.packed(weight, k, bytes(tile), bytes(acts), acts_stride, rows, out, out_stride);
  }
  std::uint8_t* expanded = scratch(k / 32 * kMaxExpandedBlockBytes);
  t.expand(weight, k, bytes(tile), expanded);
  t.expanded(weight, k, expanded, bytes(acts), acts_stride, rows, out, out_stride);
}

}  // namespace metal_candle::simd
