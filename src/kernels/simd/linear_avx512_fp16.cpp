// AVX512-FP16 (Sapphire Rapids+): 32 products an instruction, twice those of f32. Error: a run of 128
// roundings to 11 bits is off by sqrt(128 / 2) of them, 2^-8 of its own size, which is that of the square
// root of 128 products: less than rounding their operands to bfloat16 costs, and a row has many runs.
#include "kernels/simd/half_avx512.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_kernel.h"

namespace metal_candle::simd {
namespace {

constexpr int kRows = 8;                 // with two tiles; with one, twice as many
constexpr int kFewRows = 2;              // for which a bf16 tile is not worth converting first
constexpr std::size_t kRun = 128;        // products summed in float16
constexpr std::size_t kStepsInL1 = 256;  // of the tiles, while all rows pass

MC_INLINE void add_wide(__m512h sums, bool first, float* to) {
  const __m512 down = _mm512_set1_ps(kHalfDown), zero = _mm512_setzero_ps();
  const __m512 low = low_half(sums), high = high_half(sums);
  _mm512_storeu_ps(to, _mm512_fmadd_ps(low, down, first ? zero : _mm512_loadu_ps(to)));
  _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(high, down, first ? zero : _mm512_loadu_ps(to + 16)));
}

/// Where the 32 weights of an input come from. `tile`: where a tile or a chunk of one begins.
struct F16Weights {
  static MC_INLINE __m512h load(const std::uint16_t* tile, std::size_t p) {
    return _mm512_loadu_ph(tile + p * kTile);
  }
};
struct Bf16Weights {  // pairs of inputs, the even one in the low halves; below 2^-14 rounded to multiples of
                      // 2^-24
  static MC_INLINE __m512 outputs(const std::uint16_t* pairs, unsigned up) {
    const __m512i word = _mm512_slli_epi32(_mm512_loadu_si512(pairs), up);
    return _mm512_castsi512_ps(_mm512_and_si512(word, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static MC_INLINE __m512h load(const std::uint16_t* tile, std::size_t p) {
    const std::uint16_t* pairs = tile + p / 2 * 2 * kTile;
    const unsigned up = p % 2 == 0 ? 16 : 0;
    return to_half(outputs(pairs, up), outputs(pairs + kTile, up));
  }
};

// R rows times `steps` inputs of T tiles, tile_stride apart, added to `out`.
template <class W, int R, int T>
MC_INLINE void add_run(const std::uint16_t* acts, std::size_t acts_stride, const std::uint16_t* tile,
                       std::size_t tile_stride, std::size_t steps, bool first, float* out,
                       std::size_t out_stride) {
  __m512h sums[R][T];
  MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int t = 0; t < T; ++t) sums[r][t] =
      _mm512_setzero_ph();
  for (std::size_t p = 0; p < steps; ++p) {
    if constexpr (R <= 2) prefetch<64>(reinterpret_cast<const std::uint8_t*>(tile + p * kTile));
    __m512h w[T];
    MC_UNROLL for (int t = 0; t < T; ++t) w[t] = W::load(tile + static_cast<std::size_t>(t) * tile_stride, p);
    MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int t = 0; t < T; ++t) sums[r][t] =
        multiply_add(acts + static_cast<std::size_t>(r) * acts_stride + p, w[t], sums[r][t]);
  }
  MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int t = 0; t < T; ++t)
      add_wide(sums[r][t], first, out + static_cast<std::size_t>(r) * out_stride + t * kTile);
}

// The same for any number of steps and rows, R rows at a time.
template <class W, int T, int R>
void product(const std::uint16_t* acts, std::size_t acts_stride, const std::uint16_t* tile,
             std::size_t tile_stride, std::size_t steps, bool first, std::size_t rows, float* out,
             std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * acts_stride, out += R * out_stride)
    for (std::size_t p = 0; p < steps; p += kRun)
      add_run<W, R, T>(acts + p, acts_stride, tile + p * kTile, tile_stride,
                       steps - p < kRun ? steps - p : kRun, first && p == 0, out, out_stride);
  if constexpr (R > 1)
    if (rows > 0)
      product<W, T, R / 2>(acts, acts_stride, tile, tile_stride, steps, first, rows, out, out_stride);
}

}  // namespace

void half_activations(const float* x, std::size_t n, std::uint16_t* out) {
  scale_to_half(x, n, 1 / kHalfDown, out);
}

void half_row(const float* x, std::size_t n, std::byte* out) {
  __m512i largest = _mm512_setzero_si512();
  for (std::size_t i = 0; i < n; i += 16) {
    largest = _mm512_max_epu32(largest, magnitude(_mm512_maskz_loadu_ps(first_lanes(n - i), x + i)));
  }
  const Scale scale = scale_for(_mm512_reduce_max_epu32(largest));
  __builtin_memcpy(out, &scale.down, sizeof scale.down);
  scale_to_half(x, n, scale.up, reinterpret_cast<std::uint16_t*>(out + sizeof scale.down));
}

void half_product(DType type, std::size_t k, const std::uint8_t* tile, std::size_t tiles,
                  const std::uint16_t* acts, std::size_t acts_stride, std::size_t rows, float* out,
                  std::size_t out_stride) {
  const auto* weights = reinterpret_cast<const std::uint16_t*>(tile);
  const bool widens = type == DType::bf16, few = rows <= kFewRows;
  const auto product_of = tiles == 2      ? product<F16Weights, 2, kRows>
                          : widens && few ? product<Bf16Weights, 1, kFewRows>
                                          : product<F16Weights, 1, 2 * kRows>;
  for (std::size_t p = 0; p < k; p += kStepsInL1) {
    const std::size_t steps = k - p < kStepsInL1 ? k - p : kStepsInL1;
    const std::uint16_t* chunk = weights + p * kTile;
    std::uint16_t rounded[kStepsInL1 * kTile];
    if (widens && !few) {
      for (std::size_t i = 0; i < steps; ++i)
        _mm512_storeu_ph(rounded + i * kTile, Bf16Weights::load(chunk, i));
      chunk = rounded;
    }
    product_of(acts + p, acts_stride, chunk, k * kTile, steps, p == 0, rows, out, out_stride);
  }
}

bool half_rescale(float* out, float factor) {
  const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(out), _mm512_set1_ps(factor));
  const __m512 high = _mm512_mul_ps(_mm512_loadu_ps(out + 16), _mm512_set1_ps(factor));
  _mm512_storeu_ps(out, low);
  _mm512_storeu_ps(out + 16, high);
  return finite(low, high);
}

}  // namespace metal_candle::simd
