// Lanes are queries while scores are made, so that their maxima and sums need no step across lanes, and
// dimensions while values are added, so that results need no transposition: the product takes a probability
// from memory into all lanes wherever it lies.
#include "kernels/simd/attention_avx512_fp16.h"

#include "kernels/simd/half_avx512.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/transpose.h"

namespace metal_candle::simd {
namespace {

using Half = std::uint16_t;

constexpr std::size_t kLanes = 32;
constexpr std::size_t kKeyStep = 128;  // keys whose values are summed in float16
constexpr int kRows = 16;
constexpr float kLog2E = 1.44269504f;

struct Scratch {
  alignas(64) Half rows[kLanes * kMaxHalfHeadDim];  // queries as they come
  alignas(64) Half q[kMaxHalfHeadDim * kLanes];
  alignas(64) Half scores[kKeyStep * kLanes];       // by key; then probabilities
  alignas(64) float sum[kLanes * kMaxHalfHeadDim];  // of values
  alignas(64) float shrink[kLanes];
  alignas(64) float weight[kLanes];  // sum of probabilities
};

/// 2^y for y <= 0, relative error 6e-4: 2^f = 1 + f q(f) on [0, 1), fitted in float16. NaN gives NaN.
MC_INLINE __m512h exp2_neg(__m512h y) {
  const __m512h f = _mm512_reduce_ph(y, _MM_FROUND_TO_NEG_INF);  // y - floor(y)
  __m512h q = _mm512_set1_ph(static_cast<_Float16>(0.076904296875f));
  q = _mm512_fmadd_ph(q, f, _mm512_set1_ph(static_cast<_Float16>(0.2274169921875f)));
  q = _mm512_fmadd_ph(q, f, _mm512_set1_ph(static_cast<_Float16>(0.6953125f)));
  q = _mm512_fmadd_ph(q, f, _mm512_set1_ph(static_cast<_Float16>(1.0f)));
  return _mm512_scalef_ph(q, y);
}

/// Scores of `count` keys; returns the greatest, or `top`.
template <int R = kRows>
__m512h score(const Half* keys, std::size_t width, std::size_t count, const Half* q, std::size_t dim,
              __m512h top, Half* out) {
  for (; count >= R; count -= R, keys += R * width, out += R * kLanes) {
    __m512h sums[R];
    MC_UNROLL for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ph();
    for (std::size_t d = 0; d < dim; ++d) {
      const __m512h x = _mm512_load_ph(q + d * kLanes);
      MC_UNROLL for (int r = 0; r < R; ++r) sums[r] =
          multiply_add(keys + static_cast<std::size_t>(r) * width + d, x, sums[r]);
    }
    MC_UNROLL for (int r = 0; r < R; ++r) {
      _mm512_store_ph(out + static_cast<std::size_t>(r) * kLanes, sums[r]);
      top = _mm512_max_ph(top, sums[r]);
    }
  }
  if constexpr (R > 1)
    if (count > 0) return score<R / 2>(keys, width, count, q, dim, top, out);
  return top;
}

/// Scores of `count` keys become probabilities relative to `top`, which are added to `weight`.
void exponentiate(std::size_t count, __m512h top, Scratch& s) {
  __m512 low = _mm512_mul_ps(_mm512_load_ps(s.weight), _mm512_load_ps(s.shrink));
  __m512 high = _mm512_mul_ps(_mm512_load_ps(s.weight + 16), _mm512_load_ps(s.shrink + 16));
  for (std::size_t k = 0; k < count;) {
    __m512h part = _mm512_setzero_ph();
    for (const std::size_t end = k + 8 < count ? k + 8 : count; k < end; ++k) {
      Half* p = s.scores + k * kLanes;
      const __m512h e = exp2_neg(_mm512_sub_ph(_mm512_load_ph(p), top));
      _mm512_store_ph(p, e);
      part = _mm512_add_ph(part, e);
    }
    low = _mm512_add_ps(low, low_half(part));
    high = _mm512_add_ps(high, high_half(part));
  }
  _mm512_store_ps(s.weight, low);
  _mm512_store_ps(s.weight + 16, high);
}

/// 32 columns of the values of `keys` keys, added to the sums of `count` queries.
template <int R = kRows>
void add_values(const Half* values, std::size_t width, std::size_t keys, std::size_t query, std::size_t count,
                float* sum, Scratch& s) {
  for (; count >= R; count -= R, query += R, sum += R * width) {
    __m512h sums[R];
    MC_UNROLL for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ph();
    for (std::size_t k = 0; k < keys; ++k) {
      const __m512h v = _mm512_loadu_ph(values + k * width);
      MC_UNROLL for (int r = 0; r < R; ++r) sums[r] =
          multiply_add(s.scores + k * kLanes + query + r, v, sums[r]);
    }
    MC_UNROLL for (int r = 0; r < R; ++r) {
      float* to = sum + static_cast<std::size_t>(r) * width;
      const __m512 shrink = _mm512_set1_ps(s.shrink[query + r]);
      _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_load_ps(to), shrink, low_half(sums[r])));
      _mm512_store_ps(to + 16, _mm512_fmadd_ps(_mm512_load_ps(to + 16), shrink, high_half(sums[r])));
    }
  }
  if constexpr (R > 1)
    if (count > 0) add_values<R / 2>(values, width, keys, query, count, sum, s);
}

/// Up to 32 rows of one query head.
void attend_rows(const AttentionParams& params, const float* q, std::size_t q_stride, std::size_t rows,
                 const Half* keys, const Half* values, std::size_t width, std::size_t length, float* out,
                 std::size_t out_stride) {
  Scratch s;
  const std::size_t dim = params.head_dim;
  for (std::size_t r = 0; r < rows; ++r)
    scale_to_half(q + r * q_stride, dim, params.scale * kLog2E, s.rows + r * dim);
  __builtin_memset(s.rows + rows * dim, 0, (kLanes - rows) * dim * sizeof(Half));
  transpose_16(reinterpret_cast<const std::byte*>(s.rows), kLanes, dim, reinterpret_cast<std::byte*>(s.q), 1);
  __builtin_memset(s.sum, 0, rows * width * sizeof(float));
  __builtin_memset(s.weight, 0, sizeof s.weight);
  __m512h top = _mm512_set1_ph(-static_cast<_Float16>(__builtin_inff()));
  for (std::size_t k = 0; k < length; k += kKeyStep) {
    const std::size_t count = length - k < kKeyStep ? length - k : kKeyStep;
    const __m512h before = top;
    top = score(keys + k * width, width, count, s.q, dim, top, s.scores);
    const __m512h shrink = exp2_neg(_mm512_sub_ph(before, top));
    _mm512_store_ps(s.shrink, low_half(shrink));
    _mm512_store_ps(s.shrink + 16, high_half(shrink));
    exponentiate(count, top, s);
    for (std::size_t d = 0; d < width; d += kLanes)
      add_values(values + k * width + d, width, count, 0, rows, s.sum + d, s);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    const __m512 by = _mm512_set1_ps(kHalfDown / s.weight[r]);
    for (std::size_t d = 0; d < dim; d += 16) {
      _mm512_mask_storeu_ps(out + r * out_stride + d, first_lanes(dim - d),
                            _mm512_mul_ps(_mm512_load_ps(s.sum + r * width + d), by));
    }
  }
}

}  // namespace

void half_attend(const AttentionParams& params, HeadRows<const float> q, const float* keys,
                 const float* values, std::size_t stride, std::size_t length, std::byte* scratch,
                 HeadRows<float> out) {
  const std::size_t dim = params.head_dim, width = (dim + kLanes - 1) / kLanes * kLanes;
  Half* const k = reinterpret_cast<Half*>(scratch);
  Half* const v = k + length * width;
  for (std::size_t i = 0; i < length; ++i) {
    scale_to_half(keys + i * stride, dim, 1, k + i * width);
    scale_to_half(values + i * stride, dim, 1 / kHalfDown, v + i * width);
    __builtin_memset(v + i * width + dim, 0, (width - dim) * sizeof(Half));
  }
  for (std::size_t head = 0; head < params.group; ++head)
    for (std::size_t r = 0; r < length; r += kLanes)
      attend_rows(params, q.data + r * q.row_stride + head * q.head_stride, q.row_stride,
                  length - r < kLanes ? length - r : kLanes, k, v, width, length,
                  out.data + r * out.row_stride + head * out.head_stride, out.row_stride);
}

}  // namespace metal_candle::simd
