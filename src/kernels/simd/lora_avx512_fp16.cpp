// LoRA's products of float16, 32 to an instruction. Errors: linear_avx512_fp16.cpp.
#include "kernels/simd/half_avx512.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/lora_avx512.h"
#include "kernels/simd/lora_half.h"

namespace metal_candle::simd {
namespace {

constexpr std::size_t kRun = 128;  // products in a sum of float16

struct F16 {
  static MC_INLINE __m512h load(const std::uint16_t* p) { return _mm512_loadu_ph(p); }
  static MC_INLINE __m512h load(const std::uint16_t* p, __mmask32 lanes) {
    return _mm512_castsi512_ph(_mm512_maskz_loadu_epi16(lanes, p));
  }
};
struct Bf16 {
  static MC_INLINE __m512h halves(__m512i x) {
    const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(x));
    const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(x, 1));
    return to_half(_mm512_castsi512_ps(_mm512_slli_epi32(low, 16)),
                   _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)));
  }
  static MC_INLINE __m512h load(const std::uint16_t* p) { return halves(_mm512_loadu_si512(p)); }
  static MC_INLINE __m512h load(const std::uint16_t* p, __mmask32 lanes) {
    return halves(_mm512_maskz_loadu_epi16(lanes, p));
  }
};

MC_INLINE float down_of(const std::byte* half_row) {
  float down;
  __builtin_memcpy(&down, half_row, sizeof down);
  return down;
}

MC_INLINE __m512 wide(__m512h x) { return _mm512_add_ps(low_half(x), high_half(x)); }

// The sums of two lanes each of a and b, by turns.
MC_INLINE __m512h pairs_of(__m512h a, __m512h b) {
  const __m512i x = _mm512_castph_si512(a), y = _mm512_castph_si512(b);
  return _mm512_add_ph(_mm512_castsi512_ph(_mm512_unpacklo_epi16(x, y)),
                       _mm512_castsi512_ph(_mm512_unpackhi_epi16(x, y)));
}

/// The sums of four vectors, each in the same order.
MC_INLINE __m128 sums_of(__m512h a, __m512h b, __m512h c, __m512h d) {
  const __m512d ab = _mm512_castps_pd(wide(pairs_of(a, b))), cd = _mm512_castps_pd(wide(pairs_of(c, d)));
  const __m512 quarters = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                                        _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

// R rows times J rows of A.
template <class W>
struct Block {
  template <int R, int J>
  static MC_INLINE void multiply(const std::uint16_t* a, std::size_t columns, const std::byte* x,
                                 std::size_t x_stride, float* out, std::size_t out_stride) {
    constexpr std::size_t kStretch = kRun / 2 * kLanes;  // two lanes make a sum
    for (std::size_t begin = 0; begin < columns; begin += kStretch) {
      const std::size_t end = columns - begin < kStretch ? columns : begin + kStretch;
      __m512h sums[R][J];
      MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int j = 0; j < J; ++j) sums[r][j] =
          _mm512_setzero_ph();
      const auto add = [&](std::size_t k, const auto& load) MC_LAMBDA_INLINE {
        __m512h w[J];
        MC_UNROLL for (int j = 0; j < J; ++j) w[j] = load(W(), a + static_cast<std::size_t>(j) * columns + k);
        MC_UNROLL for (int r = 0; r < R; ++r) {
          const __m512h v = load(F16(), values_of(x + static_cast<std::size_t>(r) * x_stride) + k);
          MC_UNROLL for (int j = 0; j < J; ++j) sums[r][j] = _mm512_fmadd_ph(v, w[j], sums[r][j]);
        }
      };
      std::size_t k = begin;
      for (; k + kLanes <= end; k += kLanes)
        add(k, [](auto w, const std::uint16_t* p) MC_LAMBDA_INLINE { return w.load(p); });
      const __mmask32 rest = first_words(end - k);
      if (rest) add(k, [rest](auto w, const std::uint16_t* p) MC_LAMBDA_INLINE { return w.load(p, rest); });
      MC_UNROLL for (int r = 0; r < R; ++r) {
        const __m128 down = _mm_set1_ps(down_of(x + static_cast<std::size_t>(r) * x_stride));
        float* to = out + static_cast<std::size_t>(r) * out_stride;
        MC_UNROLL for (int j = 0; j < J; j += 4) {
          const __mmask8 ranks = J < 4 ? (1u << J) - 1 : 0xf;
          const __m512h none = _mm512_setzero_ph();
          const __m128 sum =
              sums_of(sums[r][j], J > 1 ? sums[r][(j + 1) % J] : none, J > 2 ? sums[r][(j + 2) % J] : none,
                      J > 2 ? sums[r][(j + 3) % J] : none);
          const __m128 before = begin == 0 ? _mm_setzero_ps() : _mm_maskz_loadu_ps(ranks, to + j);
          _mm_mask_storeu_ps(to + j, ranks, _mm_fmadd_ps(sum, down, before));
        }
      }
    }
  }
};

// y += t · b over `rank` ranks from `first` on, in f32: a rank at a time.
template <class W>
void expand_exactly(const std::uint16_t* b, std::size_t first, std::size_t rank, const std::byte* t,
                    float* y) {
  const float down = down_of(t);
  __m512 low = _mm512_setzero_ps(), high = low;
  for (std::size_t j = first; j < first + rank; ++j) {
    const __m512 x = _mm512_cvtph_ps(_mm256_set1_epi16(static_cast<short>(values_of(t)[j])));
    const __m512h w = W::load(b + j * kLanes);
    low = _mm512_fmadd_ps(x, low_half(w), low);
    high = _mm512_fmadd_ps(x, high_half(w), high);
  }
  _mm512_storeu_ps(y, _mm512_fmadd_ps(low, _mm512_set1_ps(down), _mm512_loadu_ps(y)));
  _mm512_storeu_ps(y + 16, _mm512_fmadd_ps(high, _mm512_set1_ps(down), _mm512_loadu_ps(y + 16)));
}

// The same in float16, R rows at a time; a sum that leaves its range is done again.
template <class W, int R>
void expand_run(const std::uint16_t* b, std::size_t first, std::size_t rank, const std::byte* t,
                std::size_t t_stride, std::size_t rows, float* y, std::size_t y_stride) {
  for (; rows >= R; rows -= R, t += R * t_stride, y += R * y_stride) {
    __m512h sums[R];
    MC_UNROLL for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ph();
    for (std::size_t j = first; j < first + rank; ++j) {
      const __m512h w = W::load(b + j * kLanes);
      MC_UNROLL for (int r = 0; r < R; ++r) sums[r] =
          multiply_add(values_of(t + static_cast<std::size_t>(r) * t_stride) + j, w, sums[r]);
    }
    MC_UNROLL for (int r = 0; r < R; ++r) {
      const std::byte* from = t + static_cast<std::size_t>(r) * t_stride;
      float* to = y + static_cast<std::size_t>(r) * y_stride;
      if (!finite(sums[r])) {
        expand_exactly<W>(b, first, rank, from, to);
        continue;
      }
      const __m512 down = _mm512_set1_ps(down_of(from));
      _mm512_storeu_ps(to, _mm512_fmadd_ps(low_half(sums[r]), down, _mm512_loadu_ps(to)));
      _mm512_storeu_ps(to + 16, _mm512_fmadd_ps(high_half(sums[r]), down, _mm512_loadu_ps(to + 16)));
    }
  }
  if constexpr (R > 1)
    if (rows > 0) expand_run<W, R / 2>(b, first, rank, t, t_stride, rows, y, y_stride);
}

template <class W>
void expand_as(const std::uint16_t* b, std::size_t rank, const std::byte* t, std::size_t t_stride,
               std::size_t rows, float* y, std::size_t y_stride) {
  for (std::size_t first = 0; first < rank; first += kRun)
    expand_run<W, 16>(b, first, rank - first < kRun ? rank - first : kRun, t, t_stride, rows, y, y_stride);
}

void matrix(DType type, const std::byte* from, std::size_t count, std::uint16_t* out) {
  const auto* words = reinterpret_cast<const std::uint16_t*>(from);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const __mmask32 lanes = first_words(count - i);
    const __m512h x = type == DType::bf16 ? Bf16::load(words + i, lanes) : F16::load(words + i, lanes);
    _mm512_mask_storeu_epi16(out + i, lanes, _mm512_castph_si512(x));
  }
}

void row_of_quantized(const std::byte* blocks, std::size_t k, std::byte* out) {
  const auto* from = reinterpret_cast<const ActBlock*>(blocks);
  // As integers, magnitudes order like floats, NaN above all. What follows a scale is compared for nothing.
  static_assert(sizeof(ActBlock) - offsetof(ActBlock, scale) == sizeof(__m128i));
  __m128i most = _mm_setzero_si128();
  for (std::size_t b = 0; b < k / 32; ++b) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(&from[b].scale));
    most = _mm_max_epu32(most, _mm_and_si128(bits, _mm_set1_epi32(0x7fffffff)));
  }
  const auto largest = static_cast<std::uint32_t>(_mm_cvtsi128_si32(most));
  constexpr std::uint32_t kInfinity = 0x7f800000u, kTimes128 = 7u << 23;  // a code is below 128
  const Scale scale = scale_for(largest < kInfinity ? largest + kTimes128 : kInfinity);
  __builtin_memcpy(out, &scale.down, sizeof scale.down);
  auto* to = reinterpret_cast<std::uint16_t*>(out + sizeof scale.down);
  for (std::size_t b = 0; b < k / 32; ++b, to += kLanes) {
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from[b].q));
    const __m128i factor = _mm_cvtps_ph(_mm_set_ss(from[b].scale * scale.up), _MM_FROUND_TO_NEAREST_INT);
    _mm512_storeu_ph(to, _mm512_mul_ph(_mm512_cvtepi16_ph(_mm512_cvtepi8_epi16(codes)),
                                       _mm512_castsi512_ph(_mm512_broadcastw_epi16(factor))));
  }
}

void shrink(DType type, const std::byte* a, std::size_t rank, std::size_t columns, const std::byte* x,
            std::size_t x_stride, std::size_t rows, float* out, std::size_t out_stride) {
  (type == DType::bf16 ? shrink_rows<Block<Bf16>> : shrink_rows<Block<F16>>)(a, rank, columns, x, x_stride,
                                                                             rows, out, out_stride);
}

void expand(DType type, const std::byte* b, std::size_t rank, const std::byte* t, std::size_t t_stride,
            std::size_t rows, float* y, std::size_t y_stride) {
  const auto* words = reinterpret_cast<const std::uint16_t*>(b);
  (type == DType::bf16 ? expand_as<Bf16> : expand_as<F16>)(words, rank, t, t_stride, rows, y, y_stride);
}

}  // namespace

const LoraHalf kLoraAvx512Fp16{DType::f16, matrix, half_row, row_of_quantized, shrink, expand};

}  // namespace metal_candle::simd
