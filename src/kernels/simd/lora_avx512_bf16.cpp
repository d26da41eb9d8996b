// LoRA's products of bfloat16 pairs, 32 to an instruction, summed in f32. Subnormals count as zero in it.
#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/lora_avx512.h"
#include "kernels/simd/lora_half.h"

namespace metal_candle::simd {
namespace {

MC_INLINE __m512bh rounded(__m512 low, __m512 high) { return _mm512_cvtne2ps_pbh(high, low); }

struct Bf16 {
  static MC_INLINE __m512i load(const std::uint16_t* p) { return _mm512_loadu_si512(p); }
  static MC_INLINE __m512i load(const std::uint16_t* p, __mmask32 lanes) {
    return _mm512_maskz_loadu_epi16(lanes, p);
  }
};
struct F16 {
  static MC_INLINE __m512i halves(__m512i x) {
    return (__m512i)rounded(_mm512_cvtph_ps(_mm512_castsi512_si256(x)),
                            _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1)));
  }
  static MC_INLINE __m512i load(const std::uint16_t* p) { return halves(_mm512_loadu_si512(p)); }
  static MC_INLINE __m512i load(const std::uint16_t* p, __mmask32 lanes) {
    return halves(_mm512_maskz_loadu_epi16(lanes, p));
  }
};

/// The sums of four vectors, each in the same order.
MC_INLINE __m128 sums_of(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
  const __m512 quarters =
      _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
  const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
  return _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
}

// R rows times J rows of A.
template <class W>
struct Block {
  template <int R, int J>
  static MC_INLINE void multiply(const std::uint16_t* a, std::size_t columns, const std::byte* x,
                                 std::size_t x_stride, float* out, std::size_t out_stride) {
    __m512 sums[R][J];
    MC_UNROLL for (int r = 0; r < R; ++r) MC_UNROLL for (int j = 0; j < J; ++j) sums[r][j] =
        _mm512_setzero_ps();
    const auto add = [&](std::size_t k, const auto& load) MC_LAMBDA_INLINE {
      __m512bh w[J];
      MC_UNROLL for (int j = 0; j < J; ++j) w[j] =
          (__m512bh)load(W(), a + static_cast<std::size_t>(j) * columns + k);
      MC_UNROLL for (int r = 0; r < R; ++r) {
        const auto v = (__m512bh)load(Bf16(), values_of(x + static_cast<std::size_t>(r) * x_stride) + k);
        MC_UNROLL for (int j = 0; j < J; ++j) sums[r][j] = _mm512_dpbf16_ps(sums[r][j], v, w[j]);
      }
    };
    std::size_t k = 0;
    for (; k + kLanes <= columns; k += kLanes)
      add(k, [](auto w, const std::uint16_t* p) MC_LAMBDA_INLINE { return w.load(p); });
    const __mmask32 rest = first_words(columns - k);
    if (rest) add(k, [rest](auto w, const std::uint16_t* p) MC_LAMBDA_INLINE { return w.load(p, rest); });
    MC_UNROLL for (int r = 0; r < R; ++r) {
      float* to = out + static_cast<std::size_t>(r) * out_stride;
      MC_UNROLL for (int j = 0; j < J; j += 4) {
        const __m512 none = _mm512_setzero_ps();
        const __m128 sum = sums_of(sums[r][j], J > 1 ? sums[r][(j + 1) % J] : none,
                                   J > 2 ? sums[r][(j + 2) % J] : none, J > 2 ? sums[r][(j + 3) % J] : none);
        _mm_mask_storeu_ps(to + j, J < 4 ? (1u << J) - 1 : 0xf, sum);
      }
    }
  }
};

/// Where the pairs of lanes `from` to `from` + 15 of two vectors come from.
MC_INLINE __m512i pairs_from(int from) {
  const __m512i i = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_add_epi32(_mm512_mullo_epi32(i, _mm512_set1_epi32(0x10001)),
                          _mm512_set1_epi32(0x200000 + from * 0x10001));
}

// R rows at a time, two ranks to a step.
template <class W, int R>
void expand_rows(const std::uint16_t* b, std::size_t rank, const std::byte* t, std::size_t t_stride,
                 std::size_t rows, float* y, std::size_t y_stride) {
  const __m512i low = pairs_from(0), high = pairs_from(16);
  for (; rows >= R; rows -= R, t += R * t_stride, y += R * y_stride) {
    __m512 sums[R][2];
    MC_UNROLL for (int r = 0; r < R; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (std::size_t j = 0; j < rank; j += 2) {
      const __m512i even = W::load(b + j * kLanes);
      const __m512i odd = j + 1 < rank ? W::load(b + (j + 1) * kLanes) : _mm512_setzero_si512();
      const auto w0 = (__m512bh)_mm512_permutex2var_epi16(even, low, odd);
      const auto w1 = (__m512bh)_mm512_permutex2var_epi16(even, high, odd);
      MC_UNROLL for (int r = 0; r < R; ++r) {
        int pair;
        __builtin_memcpy(&pair, values_of(t + static_cast<std::size_t>(r) * t_stride) + j, sizeof pair);
        const auto x = (__m512bh)_mm512_set1_epi32(pair);
        sums[r][0] = _mm512_dpbf16_ps(sums[r][0], w0, x);
        sums[r][1] = _mm512_dpbf16_ps(sums[r][1], w1, x);
      }
    }
    MC_UNROLL for (int r = 0; r < R; ++r) {
      float* to = y + static_cast<std::size_t>(r) * y_stride;
      _mm512_storeu_ps(to, _mm512_add_ps(sums[r][0], _mm512_loadu_ps(to)));
      _mm512_storeu_ps(to + 16, _mm512_add_ps(sums[r][1], _mm512_loadu_ps(to + 16)));
    }
  }
  if constexpr (R > 1)
    if (rows > 0) expand_rows<W, R / 2>(b, rank, t, t_stride, rows, y, y_stride);
}

void matrix(DType type, const std::byte* from, std::size_t count, std::uint16_t* out) {
  const auto* words = reinterpret_cast<const std::uint16_t*>(from);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const __mmask32 lanes = first_words(count - i);
    const __m512i x = type == DType::bf16 ? Bf16::load(words + i, lanes) : F16::load(words + i, lanes);
    _mm512_mask_storeu_epi16(out + i, lanes, x);
  }
}

void row_of_quantized(const std::byte* blocks, std::size_t k, std::byte* out) {
  const auto* from = reinterpret_cast<const ActBlock*>(blocks);
  const float down = 1;
  __builtin_memcpy(out, &down, sizeof down);
  out += sizeof down;
  for (std::size_t b = 0; b < k / kLanes; ++b, out += kLanes * sizeof(std::uint16_t)) {
    const auto values = [&](int first) MC_LAMBDA_INLINE {
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from[b].q + first));
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), _mm512_set1_ps(from[b].scale));
    };
    _mm512_storeu_si512(out, (__m512i)rounded(values(0), values(16)));
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
  (type == DType::bf16 ? expand_rows<Bf16, 12> : expand_rows<F16, 12>)(words, rank, t, t_stride, rows, y,
                                                                       y_stride);
}

}  // namespace

const LoraHalf kLoraAvx512Bf16{DType::bf16, matrix, bf16_row, row_of_quantized, shrink, expand};

}  // namespace metal_candle::simd
