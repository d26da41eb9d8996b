// The register tiles of dense products, in f32 and of 16-bit operands, and the packing of what they read: the
// innermost loop of training. One thread, raw pointers; blocking and threads are kernels/gemm. Inference
// multiplies packed weights instead (linear.h).
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// One kind of product on the active target. Packed operands are opaque, 64-byte aligned, k <= kMaxGemmDepth
/// deep.
struct GemmKernel {
  std::size_t rows, columns;         ///< of C in one tile
  std::size_t a_element, b_element;  ///< packed bytes of one value

  /// `count` <= rows rows of A, `stride` floats apart.
  void (*pack_a)(const float* a, std::size_t stride, std::size_t count, std::size_t k, std::byte* out);
  /// A panel of B, [k][columns]; null: it is packed as it is. `b` may be `out`.
  void (*pack_b)(const float* b, std::size_t k, std::byte* out);
  /// c[i * c_stride + j] (+)= sum over k of a[i, k] * b[k, j], for i < count, at most rows, and j < width, at
  /// most columns. The order of the sum depends on k alone.
  void (*product)(const std::byte* a, std::size_t count, const std::byte* b, std::size_t k, float* c,
                  std::size_t c_stride, std::size_t width, bool accumulate);

  std::size_t a_bytes(std::size_t k) const { return kHead + rows * round_up(k) * a_element; }
  std::size_t b_bytes(std::size_t k) const { return kHead + columns * round_up(k) * b_element; }

  static constexpr std::size_t kHead = 64;  ///< for a kernel's own notes, such as scales
  static constexpr std::size_t round_up(std::size_t k) { return (k + 15) / 16 * 16; }
};

inline constexpr std::size_t kMaxGemmDepth = 640;
inline constexpr std::size_t kMaxGemmColumns = 64;  ///< of any kernel

/// Products of f32.
const GemmKernel& gemm_f32() noexcept;
/// Products of 16-bit operands with f32 sums: bfloat16 on avx512_bf16; on avx512_fp16 float16 scaled by
/// powers of two, whose sums of 32 products are float16; elsewhere f32 products of operands rounded to
/// bfloat16.
const GemmKernel& gemm_half() noexcept;

/// out[i * width + j] = rows[j][i] for i < k, j < count; zero for count <= j < width.
void gemm_transpose(const float* const* rows, std::size_t count, std::size_t k, std::size_t width,
                    float* out);

}  // namespace metal_candle::simd
