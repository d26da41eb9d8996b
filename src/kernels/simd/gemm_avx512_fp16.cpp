// AVX512-FP16 (Sapphire Rapids+): twice the products of f32, but sums in float16 too. So operands are scaled
// by powers of two, per row of A and per panel of B, until no sum can overflow; a sum takes kRun products,
// four such sums are added, and from there on it is f32.
//
// Error: a run of 32 roundings to 11 bits is off by sqrt(32 / 2) of them, 4 * 2^-11 = 2^-9 of its own size,
// where rounding both operands to bfloat16 costs sqrt(2) * 2^-9; the three additions make it 7% more. Values
// below 2^-18 of their row's or panel's largest lose bits, below 2^-28 they are lost: less than one rounding
// of the largest.
#include "kernels/simd/gemm_avx512.h"
#include "kernels/simd/half_avx512.h"

namespace metal_candle::simd {
namespace {

constexpr int kRows = 12, kColumns = 64;
constexpr std::size_t kRun = 32, kGroup = 4 * kRun;
static_assert(kGroup << 2 * kTop < 1u << 16, "sums of kGroup products are finite in float16");

// The float16 in both halves of a word each: one 32-bit broadcast then fills a vector, for which a 16-bit one
// needs a second instruction.
MC_INLINE __m512i twice(__m512 x) {
  const __m512i one = _mm512_cvtepu16_epi32(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  return _mm512_or_epi32(one, _mm512_slli_epi32(one, 16));
}

constexpr std::size_t kVector = 16;  // words
constexpr std::size_t kAhead = 16;   // rows of B, of its panel and then the next, that are on their way to L1

// [kRows] factors that undo the scales, then a vector's words of each row in turn, so that the tile passes as
// one stream.
void pack_a(const float* a, std::size_t stride, std::size_t count, std::size_t k, std::byte* out) {
  auto* down = reinterpret_cast<float*>(out);
  const std::size_t padded = GemmKernel::round_up(k);
  const auto tail = static_cast<__mmask16>(0xffffu >> (padded - k));
  auto* to = reinterpret_cast<std::uint32_t*>(out + GemmKernel::kHead);
  for (std::size_t i = 0; i < count; ++i, a += stride, to += kVector) {
    __m512i largest = _mm512_setzero_si512();
    std::size_t p = 0;
    for (; p + 16 <= k; p += 16) largest = _mm512_max_epu32(largest, magnitude(_mm512_loadu_ps(a + p)));
    if (p < k) largest = _mm512_max_epu32(largest, magnitude(_mm512_maskz_loadu_ps(tail, a + p)));
    const Scale scale = scale_for(_mm512_reduce_max_epu32(largest));
    down[i] = scale.down;
    const __m512 up = _mm512_set1_ps(scale.up);
    for (p = 0; p + 16 <= k; p += 16)
      _mm512_storeu_si512(to + p * kRows, twice(_mm512_mul_ps(_mm512_loadu_ps(a + p), up)));
    if (p < k)
      _mm512_storeu_si512(to + p * kRows, twice(_mm512_mul_ps(_mm512_maskz_loadu_ps(tail, a + p), up)));
  }
}

// The factor that undoes the scale, then [k][kColumns].
void pack_b(const float* b, std::size_t k, std::byte* out) {
  __m512i largest[4] = {};
  for (std::size_t p = 0; p < k; ++p)
    MC_UNROLL for (int v = 0; v < 4; ++v) largest[v] =
        _mm512_max_epu32(largest[v], magnitude(_mm512_loadu_ps(b + p * kColumns + 16 * v)));
  const __m512i all =
      _mm512_max_epu32(_mm512_max_epu32(largest[0], largest[1]), _mm512_max_epu32(largest[2], largest[3]));
  const Scale scale = scale_for(_mm512_reduce_max_epu32(all));
  *reinterpret_cast<float*>(out) = scale.down;
  auto* to = reinterpret_cast<__m256i*>(out + GemmKernel::kHead);
  const __m512 up = _mm512_set1_ps(scale.up);
  for (std::size_t i = 0; i < k * kColumns; i += 16)
    _mm256_storeu_si256(
        to++, _mm512_cvtps_ph(_mm512_mul_ps(_mm512_loadu_ps(b + i), up), _MM_FROUND_TO_NEAREST_INT));
}

// `steps` products added to zero; a constant saves a hundredth.
template <int R>
MC_INLINE void run(const float* a, const std::uint16_t* b, std::size_t steps, __m512h (&sums)[R][2]) {
  MC_UNROLL for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ph();
  for (; steps > 0; a += kRows * kVector, b += kVector * kColumns) {
    const std::size_t count = steps < kVector ? steps : kVector;
#pragma GCC unroll 2
    for (std::size_t p = 0; p < count; ++p) {
      __builtin_prefetch(b + (p + kAhead) * kColumns);
      __builtin_prefetch(b + (p + kAhead) * kColumns + 32);
      const __m512h b0 = _mm512_loadu_ph(b + p * kColumns), b1 = _mm512_loadu_ph(b + p * kColumns + 32);
      MC_UNROLL for (int r = 0; r < R; ++r) {
        const auto x = _mm512_castps_ph(_mm512_set1_ps(a[static_cast<std::size_t>(r) * kVector + p]));
        sums[r][0] = _mm512_fmadd_ph(x, b0, sums[r][0]);
        sums[r][1] = _mm512_fmadd_ph(x, b1, sums[r][1]);
      }
    }
    steps -= count;
  }
}

// One row's sums in float16, added to `base` as f32. From memory, since a conversion of half a vector from
// there saves the shuffle that finds it.
MC_INLINE __m512 widened(const std::uint16_t* sums, int v, __m512 base) {
  const __m256i half = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + 16 * v));
  return _mm512_add_ps(base, _mm512_cvtph_ps(half));
}

// `a` counts words as floats, which broadcasts them without a look at what they hold.
template <int R>
void product_rows(const float* down, const float* a, float b_down, const std::uint16_t* b, std::size_t k,
                  float* c, std::size_t c_stride, bool accumulate) {
  MC_UNROLL for (int r = 0; r < R; ++r) {
    MC_UNROLL for (int v = 0; v < 4; ++v)
        __builtin_prefetch(c + static_cast<std::size_t>(r) * c_stride + 16 * v);
  }
  __m512h sums[R][2];
  alignas(64) std::uint16_t kept[R][kColumns];
  alignas(64) float wide[R][kColumns];
  for (std::size_t p = 0; p < k; p += kRun) {
    if (k - p >= kRun)
      run<R>(a + p * kRows, b + p * kColumns, kRun, sums);
    else
      run<R>(a + p * kRows, b + p * kColumns, k - p, sums);
    const bool joins = p % kGroup != 0;
    MC_UNROLL for (int r = 0; r < R; ++r) {
      MC_UNROLL for (int v = 0; v < 2; ++v) {
        if (joins) sums[r][v] = _mm512_add_ph(sums[r][v], _mm512_load_ph(kept[r] + 32 * v));
        _mm512_store_ph(kept[r] + 32 * v, sums[r][v]);
      }
    }
    __asm__ volatile("" : : "r"(kept) : "memory");
    if ((p + kRun) % kGroup != 0 || p + kRun >= k) continue;
    MC_UNROLL for (int r = 0; r < R; ++r) {
      MC_UNROLL for (int v = 0; v < 4; ++v) {
        const __m512 base = p < kGroup ? _mm512_setzero_ps() : _mm512_load_ps(wide[r] + 16 * v);
        _mm512_store_ps(wide[r] + 16 * v, widened(kept[r], v, base));
      }
    }
  }
  const bool single = k <= kGroup;
  MC_UNROLL for (int r = 0; r < R; ++r) {
    float* to = c + static_cast<std::size_t>(r) * c_stride;
    const __m512 factor = _mm512_set1_ps(down[r] * b_down);
    MC_UNROLL for (int v = 0; v < 4; ++v) {
      const __m512 sum = widened(kept[r], v, single ? _mm512_setzero_ps() : _mm512_load_ps(wide[r] + 16 * v));
      const __m512 base = accumulate ? _mm512_loadu_ps(to + 16 * v) : _mm512_setzero_ps();
      _mm512_storeu_ps(to + 16 * v, _mm512_fmadd_ps(sum, factor, base));
    }
  }
}

template <int R = kRows>
void choose_rows(std::size_t count, const float* down, const float* a, float b_down, const std::uint16_t* b,
                 std::size_t k, float* c, std::size_t c_stride, bool accumulate) {
  if (count == R) return product_rows<R>(down, a, b_down, b, k, c, c_stride, accumulate);
  if constexpr (R > 1) choose_rows<R - 1>(count, down, a, b_down, b, k, c, c_stride, accumulate);
}

void product(const std::byte* a, std::size_t count, const std::byte* b, std::size_t k, float* c,
             std::size_t c_stride, std::size_t width, bool accumulate) {
  const auto* down = reinterpret_cast<const float*>(a);
  const auto* words = reinterpret_cast<const float*>(a + GemmKernel::kHead);
  const float b_down = *reinterpret_cast<const float*>(b);
  const auto* panel = reinterpret_cast<const std::uint16_t*>(b + GemmKernel::kHead);
  if (width == kColumns) return choose_rows(count, down, words, b_down, panel, k, c, c_stride, accumulate);
  alignas(64) float part[kRows * kColumns];
  choose_rows(count, down, words, b_down, panel, k, part, kColumns, false);
  for (std::size_t i = 0; i < count; ++i, c += c_stride)
    for (std::size_t j = 0; j < width; ++j)
      c[j] = accumulate ? c[j] + part[i * kColumns + j] : part[i * kColumns + j];
}

}  // namespace

const GemmKernel kGemmAvx512Fp16{kRows, kColumns, 4, 2, pack_a, pack_b, product};

}  // namespace metal_candle::simd
