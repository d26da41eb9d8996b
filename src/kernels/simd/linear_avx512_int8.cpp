// AVX-512 VNNI: 64 products an instruction, and two more instructions every 64 inputs. Integer sums begin at
// the bits of kMagic (linear_kernel.h), and scales have few enough bits for scale · kMagic to be exact.
#include "kernels/simd/linear_int8.h"
#include "kernels/simd/linear_isa_avx512.h"

namespace metal_candle::simd {
namespace {

using Tile = TileLayout<AffineTraits<8, DType::f32>>;

constexpr int kRows = 6;
constexpr std::size_t kRun = 64;
constexpr std::size_t kRunBytes = Tile::kHeaderBytes + kRun / 32 * Tile::kSubBytes;  // of a tile
constexpr std::size_t kRunsInL1 = 8;  // of two tiles, while all rows pass
static_assert(kRun * 128 * (255 + 128) < 1u << 22, "no sum leaves kMagic's binade");

// R rows times one run of T tiles, added to `out`.
template <int R, int T>
MC_INLINE void add_run(const Int8Run* acts, std::size_t stride, const std::uint8_t* tile,
                       std::size_t tile_bytes, bool first, float* out, std::size_t out_stride) {
  __m512i dots[R][T][2];
  MC_UNROLL for (int r = 0; r < R; ++r) {
    const __m512i start = _mm512_set1_epi32(acts[static_cast<std::size_t>(r) * stride].start);
    MC_UNROLL for (int t = 0; t < T; ++t) dots[r][t][0] = dots[r][t][1] = start;
  }
  const std::uint8_t* codes = tile + Tile::kHeaderBytes;
  MC_UNROLL for (int s = 0; s < 16; ++s) {
    const int block = s / 8, step = s % 8;
    __m512i w[T][2];
    MC_UNROLL for (int t = 0; t < T; ++t) MC_UNROLL for (int v = 0; v < 2; ++v) w[t][v] = _mm512_loadu_si512(
        codes + static_cast<std::size_t>(t) * tile_bytes + block * Tile::kSubBytes + 128 * step + 64 * v);
    MC_UNROLL for (int r = 0; r < R; ++r) {
      const __m512i x = Avx512::broadcast4(acts[static_cast<std::size_t>(r) * stride].q + 32 * block +
                                           4 * Tile::quad(step));
      MC_UNROLL for (int t = 0; t < T; ++t) MC_UNROLL for (int v = 0; v < 2; ++v) dots[r][t][v] =
          _mm512_dpbusd_epi32(dots[r][t][v], w[t][v], x);
    }
  }
  MC_UNROLL for (int t = 0; t < T; ++t) MC_UNROLL for (int v = 0; v < 2; ++v) {
    const __m512 scale = _mm512_loadu_ps(tile + static_cast<std::size_t>(t) * tile_bytes + 64 * v);
    const __m512 too_much = _mm512_mul_ps(scale, _mm512_set1_ps(-kMagic));
    MC_UNROLL for (int r = 0; r < R; ++r) {
      float* to = out + static_cast<std::size_t>(r) * out_stride + kTile * t + 16 * v;
      const __m512 sum = _mm512_fmadd_ps(_mm512_castsi512_ps(dots[r][t][v]), scale, too_much);
      const __m512 x_scale = _mm512_set1_ps(acts[static_cast<std::size_t>(r) * stride].scale);
      _mm512_storeu_ps(to, _mm512_fmadd_ps(sum, x_scale, first ? _mm512_setzero_ps() : _mm512_loadu_ps(to)));
    }
  }
}

// Runs [begin, end) of some rows, R rows at a time.
template <int T, int R = kRows>
void product(std::size_t runs, std::size_t begin, std::size_t end, const std::uint8_t* tile,
             const Int8Run* acts, std::size_t rows, float* out, std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * runs, out += R * out_stride)
    for (std::size_t i = begin; i < end; ++i)
      add_run<R, T>(acts + i, runs, tile + i * kRunBytes, runs * kRunBytes, i == 0, out, out_stride);
  if constexpr (R > 1)
    if (rows > 0) product<T, (R > 4 ? 4 : R / 2)>(runs, begin, end, tile, acts, rows, out, out_stride);
}

}  // namespace

void int8_activations(const float* x, std::size_t n, Int8Run* out) {
  const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  for (const float* end = x + n; x < end; x += kRun, ++out) {
    __m512 values[4];
    __m512i largest = _mm512_setzero_si512();
    MC_UNROLL for (int v = 0; v < 4; ++v) {
      values[v] = _mm512_loadu_ps(x + 16 * v);
      largest = _mm512_max_epu32(largest, _mm512_castps_si512(_mm512_abs_ps(values[v])));
    }
    const std::uint32_t bits = _mm512_reduce_max_epu32(largest);
    float most;
    __builtin_memcpy(&most, &bits, sizeof most);
    out->scale = bits < 0x7f800000u ? most / 127 : most - most;  // NaN
    const __m512 up = _mm512_set1_ps(most > 0x1p-120f ? 127 / most : 0.0f);
    __m512i q[4];
    MC_UNROLL for (int v = 0; v < 4; ++v) q[v] = _mm512_cvtps_epi32(_mm512_mul_ps(values[v], up));
    // Packing works within blocks of 16 bytes: of each vector, four codes after another.
    const __m512i packed = _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]), _mm512_packs_epi32(q[2], q[3]));
    _mm512_storeu_si512(out->q, _mm512_permutexvar_epi32(in_order, packed));
    const __m512i sums = _mm512_add_epi32(_mm512_add_epi32(q[0], q[1]), _mm512_add_epi32(q[2], q[3]));
    out->start = kMagicBits - kWideOffset * _mm512_reduce_add_epi32(sums);
  }
}

void int8_product(std::size_t k, const std::uint8_t* tile, std::size_t tiles, const Int8Run* acts,
                  std::size_t rows, float* out, std::size_t out_stride) {
  const auto product_of = tiles == 2 ? product<2> : product<1>;
  const std::size_t runs = k / kRun;
  for (std::size_t i = 0; i < runs; i += kRunsInL1)
    product_of(runs, i, i + kRunsInL1 < runs ? i + kRunsInL1 : runs, tile, acts, rows, out, out_stride);
}

}  // namespace metal_candle::simd
