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
constexpr std::size_t kDimStep = 32;   // dimensions whose products are; then such sums
constexpr int kRows = 16;
constexpr float kLargestScore = 128;  // of base 2; rounding larger ones would move probabilities by percents
constexpr float kLog2E = 1.44269504f;

struct Scratch {
  alignas(64) Half rows[kLanes * kMaxHeadDim];  // queries as they come
  alignas(64) Half q[kMaxHeadDim * kLanes];
  alignas(64) Half scores[kKeyStep * kLanes];   // by key; then probabilities
  alignas(64) float sum[kLanes * kMaxHeadDim];  // of values
  alignas(64) float shrink[kLanes];
  alignas(64) float weight[kLanes];                      // sum of probabilities
  alignas(64) std::uint16_t begin[kLanes], end[kLanes];  // of the keys of a step that a query sees
};

/// Rows of `width`: dimension d of the r-th key from `at`.
struct RowKeys {
  const Half* data;
  std::size_t width;
  const Half* at(std::size_t key) const { return data + key * width; }
  std::size_t offset(std::size_t r, std::size_t d) const { return r * width + d; }
};
/// The cache's blocks; no 16 keys from `at` may cross a border.
struct BlockKeys {
  const Half* data;
  std::size_t dim;
  const Half* at(std::size_t key) const { return data + key / kKvBlock * kKvBlock * dim + key % kKvBlock; }
  static std::size_t offset(std::size_t r, std::size_t d) { return d * kKvBlock + r; }
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

/// The least and the greatest score of each query.
struct Extent {
  __m512h least, greatest;
  MC_INLINE void add(__m512h x) {
    least = _mm512_min_ph(least, x);
    greatest = _mm512_max_ph(greatest, x);
  }
};

/// Scores of `count` keys from `key` on; returns `extent` with them.
template <class Keys, int R = kRows>
Extent score(const Keys& keys, std::size_t key, std::size_t count, const Half* q, std::size_t dim,
             Extent extent, Half* out) {
  for (; count >= R; count -= R, key += R, out += R * kLanes) {
    const Half* const from = keys.at(key);
    for (std::size_t d = 0; d < dim;) {
      __m512h sums[R];
      MC_UNROLL for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ph();
      const bool more = d > 0;
      for (const std::size_t end = d + kDimStep < dim ? d + kDimStep : dim; d < end; ++d) {
        const __m512h x = _mm512_load_ph(q + d * kLanes);
        MC_UNROLL for (int r = 0; r < R; ++r) sums[r] =
            multiply_add(from + keys.offset(static_cast<std::size_t>(r), d), x, sums[r]);
      }
      MC_UNROLL for (int r = 0; r < R; ++r) {
        Half* const to = out + static_cast<std::size_t>(r) * kLanes;
        if (more) sums[r] = _mm512_add_ph(sums[r], _mm512_load_ph(to));
        _mm512_store_ph(to, sums[r]);
      }
    }
    MC_UNROLL for (int r = 0; r < R; ++r)
        extent.add(_mm512_load_ph(out + static_cast<std::size_t>(r) * kLanes));
  }
  if constexpr (R > 1)
    if (count > 0) return score<Keys, R / 2>(keys, key, count, q, dim, extent, out);
  return extent;
}

/// Scores of keys [first, first + count) that a query does not see become -infinity; returns `extent` with
/// the others.
Extent hide(const HalfLane* lanes, std::size_t queries, std::size_t first, std::size_t count, Extent extent,
            Scratch& s) {
  const auto within = [&](std::size_t at) {
    return static_cast<std::uint16_t>(at <= first ? 0 : at - first < count ? at - first : count);
  };
  for (std::size_t i = 0; i < kLanes; ++i) {
    const HalfLane& lane = lanes[i < queries ? i : 0];
    s.begin[i] = within(lane.begin);
    s.end[i] = within(lane.end);
  }
  const __m512i begin = _mm512_load_si512(s.begin), end = _mm512_load_si512(s.end);
  for (std::size_t k = 0; k < count; ++k) {
    const __m512i at = _mm512_set1_epi16(static_cast<short>(k));
    const __mmask32 seen = _mm512_cmple_epu16_mask(begin, at) & _mm512_cmpgt_epu16_mask(end, at);
    Half* const p = s.scores + k * kLanes;
    const __m512h none = _mm512_set1_ph(-static_cast<_Float16>(__builtin_inff()));
    const __m512h x = _mm512_load_ph(p);
    _mm512_store_ph(p, _mm512_mask_blend_ph(seen, none, x));
    extent.least = _mm512_mask_min_ph(extent.least, seen, extent.least, x);
    extent.greatest = _mm512_mask_max_ph(extent.greatest, seen, extent.greatest, x);
  }
  return extent;
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

/// Up to 32 columns of the values of `keys` keys, added to the sums of `count` queries, `lead` floats apart.
template <int R = kRows>
void add_values(const Half* values, std::size_t width, __mmask32 columns, std::size_t keys, std::size_t query,
                std::size_t count, float* sum, std::size_t lead, Scratch& s) {
  for (; count >= R; count -= R, query += R, sum += R * lead) {
    __m512h sums[R];
    MC_UNROLL for (int r = 0; r < R; ++r) sums[r] = _mm512_setzero_ph();
    for (std::size_t k = 0; k < keys; ++k) {
      const __m512h v = _mm512_castsi512_ph(_mm512_maskz_loadu_epi16(columns, values + k * width));
      MC_UNROLL for (int r = 0; r < R; ++r) sums[r] =
          multiply_add(s.scores + k * kLanes + query + r, v, sums[r]);
    }
    MC_UNROLL for (int r = 0; r < R; ++r) {
      float* to = sum + static_cast<std::size_t>(r) * lead;
      const __m512 shrink = _mm512_set1_ps(s.shrink[query + r]);
      _mm512_store_ps(to, _mm512_fmadd_ps(_mm512_load_ps(to), shrink, low_half(sums[r])));
      _mm512_store_ps(to + 16, _mm512_fmadd_ps(_mm512_load_ps(to + 16), shrink, high_half(sums[r])));
    }
  }
  if constexpr (R > 1)
    if (count > 0) add_values<R / 2>(values, width, columns, keys, query, count, sum, lead, s);
}

/// Up to 32 queries; `up` is what values were divided by. Returns a bit for each query whose scores or
/// results float16 does not hold; if it may leave then, it stops when that is known of all of them.
template <class Keys>
std::uint32_t attend_lanes(const AttentionParams& params, const Keys& keys, const Half* values,
                           std::size_t width, float up, bool may_leave, const HalfLane* lanes,
                           std::size_t count) {
  Scratch s;
  const std::size_t dim = params.head_dim, lead = (dim + kLanes - 1) / kLanes * kLanes;
  std::size_t first = lanes[0].begin, last = lanes[0].end;       // that some query sees
  std::size_t all_from = lanes[0].begin, all_to = lanes[0].end;  // that every query sees
  for (std::size_t i = 0; i < count; ++i) {
    scale_to_half(lanes[i].q, dim, params.scale * kLog2E, s.rows + i * dim);
    first = lanes[i].begin < first ? lanes[i].begin : first;
    last = lanes[i].end > last ? lanes[i].end : last;
    all_from = lanes[i].begin > all_from ? lanes[i].begin : all_from;
    all_to = lanes[i].end < all_to ? lanes[i].end : all_to;
  }
  __builtin_memset(s.rows + count * dim, 0, (kLanes - count) * dim * sizeof(Half));
  transpose_16(reinterpret_cast<const std::byte*>(s.rows), kLanes, dim, reinterpret_cast<std::byte*>(s.q), 1);
  __builtin_memset(s.sum, 0, count * lead * sizeof(float));
  __builtin_memset(s.weight, 0, sizeof s.weight);
  const __mmask32 used = count < kLanes ? (1u << count) - 1 : ~0u;
  const __m512h limit = _mm512_set1_ph(static_cast<_Float16>(kLargestScore));
  const __m512h lowest = _mm512_set1_ph(static_cast<_Float16>(-65504.0f));
  Extent extent{limit, lowest};  // finite: -infinity less that is no NaN
  for (std::size_t k = first / kKeyStep * kKeyStep; k < last;
       k += kKeyStep) {  // steps at the same keys in every pass
    const std::size_t n = last - k < kKeyStep ? last - k : kKeyStep;
    const __m512h before = extent.greatest;
    const Extent all = score(keys, k, n, s.q, dim, extent, s.scores);
    extent = all_from <= k && k + n <= all_to ? all : hide(lanes, count, k, n, extent, s);
    const __m512h top = extent.greatest;
    if (may_leave && _mm512_mask_cmp_ph_mask(used, top, limit, _CMP_GT_OQ) == used) return used;
    const __m512h shrink = exp2_neg(_mm512_sub_ph(before, top));
    _mm512_store_ps(s.shrink, low_half(shrink));
    _mm512_store_ps(s.shrink + 16, high_half(shrink));
    exponentiate(n, top, s);
    for (std::size_t d = 0; d < width; d += kLanes)
      add_values(values + k * width + d, width, width - d < kLanes ? 0xffffu : ~0u, n, 0, count, s.sum + d,
                 lead, s);
  }
  // A partial sum that was infinite shows in the least score, or as NaN in the result.
  std::uint32_t beyond = ~(_mm512_cmp_ph_mask(_mm512_abs_ph(extent.greatest), limit, _CMP_LE_OQ) &
                           _mm512_cmp_ph_mask(extent.least, lowest, _CMP_GE_OQ));
  for (std::size_t i = 0; i < count; ++i) {
    const __m512 by = _mm512_set1_ps(up / s.weight[i]);
    for (std::size_t d = 0; d < dim; d += 16) {
      const __m512 y = _mm512_mul_ps(_mm512_load_ps(s.sum + i * lead + d), by);
      if (!finite(y, y)) beyond |= 1u << i;
      _mm512_mask_storeu_ps(lanes[i].out + d, first_lanes(dim - d), y);
    }
  }
  return beyond & used;
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
    for (std::size_t r = 0; r < length; r += kLanes) {
      HalfLane lanes[kLanes];
      const std::size_t rows = length - r < kLanes ? length - r : kLanes;
      for (std::size_t i = 0; i < rows; ++i)
        lanes[i] = {q.data + (r + i) * q.row_stride + head * q.head_stride,
                    out.data + (r + i) * out.row_stride + head * out.head_stride, 0, length};
      attend_lanes(params, RowKeys{k, width}, v, width, kHalfDown, false, lanes, rows);
    }
}

std::uint32_t half_attend_cached(const AttentionParams& params, const void* keys, const void* values,
                                 const HalfLane* lanes, std::size_t count) {
  const std::size_t dim = (params.head_dim + 15) / 16 * 16;  // kv_dim is not for wide code
  return attend_lanes(params, BlockKeys{static_cast<const Half*>(keys), dim},
                      static_cast<const Half*>(values), dim, 1, true, lanes, count);
}

}  // namespace metal_candle::simd
