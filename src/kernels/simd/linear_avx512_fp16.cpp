// AVX512-FP16 (Sapphire Rapids+): 32 products an instruction, twice those of f32. Error: that of
// gemm_avx512_fp16.cpp, with a scale for every 32 inputs instead of for every row.
#include "kernels/simd/half_avx512.h"
#include "kernels/simd/linear_half.h"

namespace metal_candle::simd {
namespace {

constexpr int kRows = 16, kTile = 32;
constexpr std::size_t kBlocksInL1 = 8;  // of the tile, while all rows pass

// R rows times one block of inputs, added to `out`.
template <int R>
MC_INLINE void add_block(const HalfBlock* acts, std::size_t stride, const std::uint16_t* tile,
                         std::size_t steps, bool first, float* out, std::size_t out_stride) {
  __m512h sums[R];
  MC_UNROLL for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ph();
  for (std::size_t p = 0; p < steps; ++p, tile += kTile) {
    const __m512h w = _mm512_loadu_ph(tile);
    MC_UNROLL for (int r = 0; r < R; ++r) {
      const auto x = _mm512_castps_ph(_mm512_set1_ps(acts[static_cast<std::size_t>(r) * stride].x[p]));
      sums[r] = _mm512_fmadd_ph(x, w, sums[r]);
    }
  }
  MC_UNROLL for (int r = 0; r < R; ++r) {
    const __m512 down = _mm512_set1_ps(acts[static_cast<std::size_t>(r) * stride].down);
    const __m512i halves = _mm512_castph_si512(sums[r]);
    float* to = out + static_cast<std::size_t>(r) * out_stride;
    const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
    const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
    const __m512 zero = _mm512_setzero_ps();
    _mm512_storeu_ps(to, _mm512_fmadd_ps(low, down, first ? zero : _mm512_loadu_ps(to)));
    _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(high, down, first ? zero : _mm512_loadu_ps(to + 16)));
  }
}

// Blocks [begin, end) of some rows. R rows at a time.
template <int R = kRows>
void product(std::size_t k, std::size_t begin, std::size_t end, const std::uint16_t* tile,
             const HalfBlock* acts, std::size_t rows, float* out, std::size_t out_stride) {
  const std::size_t stride = half_blocks(k);
  for (; rows >= R; rows -= R, acts += R * stride, out += R * out_stride)
    for (std::size_t b = begin; b < end; ++b)
      add_block<R>(acts + b, stride, tile + 32 * kTile * b, k - 32 * b < 32 ? k - 32 * b : 32, b == 0, out,
                   out_stride);
  if constexpr (R > 1)
    if (rows > 0) product<(R > 8 ? 8 : R / 2)>(k, begin, end, tile, acts, rows, out, out_stride);
}

}  // namespace

void half_activations(const float* x, std::size_t k, HalfBlock* out) {
  for (; k > 0; x += 32, ++out) {
    const std::size_t count = k < 32 ? k : 32;
    const std::uint32_t lanes = count == 32 ? ~0u : (1u << count) - 1;
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes), x);
    const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(lanes >> 16), x + 16);
    const __m512i largest = _mm512_max_epu32(magnitude(low), magnitude(high));
    const Scale scale = scale_to(_mm512_reduce_max_epu32(largest), 0);
    const __m512 up = _mm512_set1_ps(scale.up);
    out->down = scale.down;
    _mm512_storeu_si512(out->x, twice(_mm512_mul_ps(low, up)));
    _mm512_storeu_si512(out->x + 16, twice(_mm512_mul_ps(high, up)));
    k -= count;
  }
}

void half_product(std::size_t k, const std::uint8_t* tile, const HalfBlock* acts, std::size_t rows,
                  float* out, std::size_t out_stride) {
  const std::size_t blocks = half_blocks(k);
  for (std::size_t b = 0; b < blocks; b += kBlocksInL1)
    product(k, b, b + kBlocksInL1 < blocks ? b + kBlocksInL1 : blocks,
            reinterpret_cast<const std::uint16_t*>(tile), acts, rows, out, out_stride);
}

}  // namespace metal_candle::simd
