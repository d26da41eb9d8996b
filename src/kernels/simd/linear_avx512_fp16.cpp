// AVX512-FP16 (Sapphire Rapids+): 32 products an instruction, twice those of f32. Error: a run of 128
// roundings to 11 bits is off by sqrt(128 / 2) of them, 2^-8 of its own size, which is that of the square
// root of 128 products: less than rounding their operands to bfloat16 costs, and a row has many runs.
#include <immintrin.h>

#include "kernels/simd/inline.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_layout.h"

namespace metal_candle::simd {
namespace {

constexpr int kRows = 8;
constexpr std::size_t kRun = 128;        // products summed in float16
constexpr std::size_t kStepsInL1 = 256;  // of the tiles, while all rows pass

// sum + w · x, x in every lane. GCC has no intrinsic that takes a float16 from memory into all lanes within
// the instruction; a broadcast of its own would take a port from the multiplications.
MC_INLINE __m512h multiply_add(const std::uint16_t* x, __m512h w, __m512h sum) {
  __asm__("vfmadd231ph %2%{1to32%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*x));
  return sum;
}

MC_INLINE void add_wide(__m512h sums, bool first, float* to) {
  const __m512 down = _mm512_set1_ps(kHalfDown), zero = _mm512_setzero_ps();
  const __m512i halves = _mm512_castph_si512(sums);
  const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
  const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
  _mm512_storeu_ps(to, _mm512_fmadd_ps(low, down, first ? zero : _mm512_loadu_ps(to)));
  _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(high, down, first ? zero : _mm512_loadu_ps(to + 16)));
}

// R rows times `steps` inputs of T tiles, added to `out`.
template <int R, int T>
MC_INLINE void add_run(const std::uint16_t* acts, std::size_t k, const std::uint16_t* tile, std::size_t steps,
                       bool first, float* out, std::size_t out_stride) {
  __m512h sums[R][T];
  MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int t = 0; t < T; ++t) sums[r][t] =
      _mm512_setzero_ph();
  for (std::size_t p = 0; p < steps; ++p) {
    __m512h w[T];
    MC_UNROLL for (int t = 0; t < T; ++t) w[t] =
        _mm512_loadu_ph(tile + (static_cast<std::size_t>(t) * k + p) * kTile);
    MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int t = 0; t < T; ++t) sums[r][t] =
        multiply_add(acts + static_cast<std::size_t>(r) * k + p, w[t], sums[r][t]);
  }
  MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int t = 0; t < T; ++t)
      add_wide(sums[r][t], first, out + static_cast<std::size_t>(r) * out_stride + t * kTile);
}

// Inputs [begin, end) of some rows, R rows at a time.
template <int T, int R = kRows>
void product(std::size_t k, std::size_t begin, std::size_t end, const std::uint16_t* tile,
             const std::uint16_t* acts, std::size_t rows, float* out, std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * k, out += R * out_stride)
    for (std::size_t p = begin; p < end; p += kRun)
      add_run<R, T>(acts + p, k, tile + p * kTile, end - p < kRun ? end - p : kRun, p == 0, out, out_stride);
  if constexpr (R > 1)
    if (rows > 0) product<T, R / 2>(k, begin, end, tile, acts, rows, out, out_stride);
}

}  // namespace

void half_activations(const float* x, std::size_t n, std::uint16_t* out) {
  const __m512 up = _mm512_set1_ps(1 / kHalfDown);
  for (std::size_t i = 0; i < n; i += 16) {
    const auto lanes = static_cast<__mmask16>(n - i < 16 ? (1u << (n - i)) - 1 : 0xffffu);
    const __m512 scaled = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + i), up);
    _mm256_mask_storeu_epi16(out + i, lanes, _mm512_cvtps_ph(scaled, _MM_FROUND_TO_NEAREST_INT));
  }
}

void half_product(std::size_t k, const std::uint8_t* tile, std::size_t tiles, const std::uint16_t* acts,
                  std::size_t rows, float* out, std::size_t out_stride) {
  const auto* weights = reinterpret_cast<const std::uint16_t*>(tile);
  const auto product_of = tiles == 2 ? product<2> : product<1>;
  for (std::size_t p = 0; p < k; p += kStepsInL1)
    product_of(k, p, k - p < kStepsInL1 ? k : p + kStepsInL1, weights, acts, rows, out, out_stride);
}

}  // namespace metal_candle::simd
