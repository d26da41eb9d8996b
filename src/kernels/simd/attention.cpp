#include "kernels/simd/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/simd/attention_avx512_bf16.h"
#include "kernels/simd/attention_avx512_fp16.h"
#include "kernels/simd/target.h"

#undef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3  // SSE4 and scalar suffice; each target takes seconds to compile
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/attention.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"
#include "kernels/simd/attention_tiles-inl.h"

#ifndef METAL_CANDLE_ATTENTION_ONCE
#define METAL_CANDLE_ATTENTION_ONCE
namespace metal_candle::simd {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.44269504f;
constexpr std::size_t kMaxRows = 24;   // query vectors (row, head) handled together
constexpr std::size_t kKeyStep = 256;  // keys between two updates of the running maximum
constexpr std::size_t kLead =
    256 + 16;  // row stride of the scratch: not a power of two, so rows differ in cache set

/// The running state of a group of query vectors; lives on the stack (about 100 KB, touched as needed).
struct Scratch {
  alignas(64) float q[kMaxRows * kLead];       // scaled, zero-padded to kv_dim
  alignas(64) float scores[kMaxRows * kLead];  // then probabilities
  alignas(64) float sum[kMaxRows * kLead];     // of values, unnormalised
  float max[kMaxRows];
  float weight[kMaxRows];                      // sum of probabilities
  const float* bias[kMaxRows];                 // by key, or null
  bool rounded = false;                        // queries and probabilities as pairs of bf16, in place
  std::size_t begin[kMaxRows], end[kMaxRows];  // the keys a query vector sees
};

}  // namespace
}  // namespace metal_candle::simd
#endif

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

Steps key_steps(KvType type, std::size_t dim) {
  if (type == KvType::int8) return {16 * (dim + sizeof(float)), 32, 16};
  return type == KvType::bf16 ? Steps{8 * dim, 16, 0} : Steps{16 * dim, 32, 16};
}
Steps value_steps(KvType type, std::size_t dim) {
  if (type == KvType::int8) return {16, 2 * (dim + sizeof(float)), dim + sizeof(float)};
  return type == KvType::bf16 ? Steps{16, dim, 0} : Steps{16, 2 * dim, dim};
}

template <KvType kType>
void scores_of(const void* keys, std::size_t rows, std::size_t dim, std::size_t blocks, Scratch& s) {
  const auto* words = static_cast<const typename Cached<kType>::Word*>(keys);
  const Steps steps = key_steps(kType, dim);
#if HWY_TARGET == HWY_AVX3
  if constexpr (kType == KvType::bf16) {
    if (s.rounded)
      return bf16_product(s.q, words, steps.panel, steps.pair, rows, dim, blocks, false, kLead, s.scores);
  }
#endif
  product<kType, kLead>(s.q, words, steps, rows, dim, blocks, false, s.scores);
  if constexpr (kType == KvType::int8) {
    const Lane16 d;
    for (std::size_t b = 0; b < blocks; ++b) {
      const auto* scales = reinterpret_cast<const float*>(words + b * steps.panel + dim * kKvBlock);
      for (std::size_t i = 0; i < kKvBlock; i += kLanes) {
        const V16 scale = hn::LoadU(d, scales + i);
        for (std::size_t r = 0; r < rows; ++r) {
          float* to = s.scores + r * kLead + b * kKvBlock + i;
          hn::StoreU(hn::Mul(hn::LoadU(d, to), scale), d, to);
        }
      }
    }
  }
}

template <KvType kType>
void add_values(const void* values, std::size_t rows, std::size_t dim, std::size_t keys, Scratch& s) {
  const auto* words = static_cast<const typename Cached<kType>::Word*>(values);
  const Steps steps = value_steps(kType, dim);
#if HWY_TARGET == HWY_AVX3
  if constexpr (kType == KvType::bf16) {
    if (s.rounded) {
      for (std::size_t r = 0; r < rows; ++r) bf16_pairs_in_place(s.scores + r * kLead, kv_dim(keys));
      return bf16_product(s.scores, words, steps.panel, steps.pair, rows, keys, dim / 16, true, kLead, s.sum);
    }
  }
#endif
  if constexpr (kType == KvType::int8) {
    for (std::size_t k = 0; k < keys; ++k) {
      float scale;
      std::memcpy(&scale, words + k * steps.odd + dim, sizeof scale);
      for (std::size_t r = 0; r < rows; ++r) s.scores[r * kLead + k] *= scale;
    }
  }
  product<kType, kLead>(s.scores, words, steps, rows, keys, dim / 16, true, s.sum);
}

/// 2^y for y <= 0, relative error 2e-7: 2^f = 1 + f q(f) on [0, 1), fitted for least relative error (8e-8).
/// Results below 2^-126 become zero, since multiplying subnormal ones takes a hundred cycles each; NaN gives
/// NaN.
HWY_INLINE V16 exp2_neg(V16 y) {
  const Lane16 d;
#if HWY_TARGET == HWY_AVX3
  const V16 f{_mm512_reduce_ps(y.raw, _MM_FROUND_TO_NEG_INF)};  // y - floor(y), and 0 for -infinity
#else
  const V16 n = hn::Floor(y);
  const V16 f = hn::Sub(y, n);
#endif
  V16 q = hn::Set(d, 0.0018671301659196615f);
  q = hn::MulAdd(q, f, hn::Set(d, 0.009017029777169228f));
  q = hn::MulAdd(q, f, hn::Set(d, 0.05579991266131401f));
  q = hn::MulAdd(q, f, hn::Set(d, 0.24016444385051727f));
  q = hn::MulAdd(q, f, hn::Set(d, 0.6931512951850891f));
  q = hn::MulAdd(q, f, hn::Set(d, 1.0f));
#if HWY_TARGET == HWY_AVX3
  const __mmask16 normal = _mm512_cmp_ps_mask(y.raw, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);  // or NaN
  return V16{_mm512_maskz_scalef_ps(normal, q.raw, y.raw)};
#else
  const hn::RebindToSigned<Lane16> di;
  const auto power = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(hn::Lt(y, hn::Set(d, -126.0f)), hn::Mul(q, hn::BitCast(d, power)));
#endif
}

void soft_cap(float cap, std::size_t n, float* scores) {
  const V32 c = hn::Set(F32(), cap), inverse = hn::Set(F32(), 1.0f / cap);
  map(scores, n, scores, [c, inverse](V32 v) { return hn::Mul(c, tanh_any(hn::Mul(v, inverse))); });
}

void add_to(float* scores, const float* bias, std::size_t n) {
  map(scores, bias, n, scores, [](V32 a, V32 b) { return hn::Add(a, b); });
}

/// Turns one query vector's scores of keys [first, first + count) into probabilities relative to the running
/// maximum, which it raises, rescaling what was summed before.
void update_row(std::size_t row, std::size_t first, std::size_t count, std::size_t dim, Scratch& s) {
  const F32 d;
  float* p = s.scores + row * kLead;
  const std::size_t lo = std::clamp(s.begin[row], first, first + count) - first;
  const std::size_t hi = std::clamp(s.end[row], first, first + count) - first;
  const std::size_t padded = kv_dim(count);
  if (lo >= hi) {
    std::fill(p, p + padded, 0.0f);
    return;
  }
  std::fill(p, p + lo, kNone);
  std::fill(p + hi, p + padded, kNone);
  const Lane16 d16;
  // Two chains: one alone waits for the latency of Max. A NaN may get lost here; the exponentials keep it.
  V16 top = hn::Set(d16, s.max[row]), top2 = top;
  std::size_t i = 0;
  for (; i + 2 * kLanes <= padded; i += 2 * kLanes) {
    top = hn::Max(top, hn::LoadU(d16, p + i));
    top2 = hn::Max(top2, hn::LoadU(d16, p + i + kLanes));
  }
  if (i < padded) top = hn::Max(top, hn::LoadU(d16, p + i));
  top = hn::Max(top, top2);
  const float max = hn::GetLane(hn::MaxOfLanes(d16, top));
  if (s.max[row] == kNone) {  // nothing is summed yet
    s.max[row] = max;
  } else if (max > s.max[row]) {
    const float shrink = hn::GetLane(exp_neg(hn::Set(d, s.max[row] - max)));
    float* sum = s.sum + row * kLead;
    for (std::size_t i = 0; i < dim; i += kLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d16, sum + i), hn::Set(d16, shrink)), d16, sum + i);
    }
    s.weight[row] *= shrink;
    s.max[row] = max;
  }
  V16 total = hn::Zero(d16);
  const V16 m = hn::Set(d16, max), log2e = hn::Set(d16, kLog2E);
  for (std::size_t i = 0; i < padded; i += kLanes) {
    const V16 e = exp2_neg(hn::Mul(hn::Sub(hn::LoadU(d16, p + i), m), log2e));
    hn::StoreU(e, d16, p + i);
    total = hn::Add(total, e);
  }
  s.weight[row] += hn::GetLane(hn::SumOfLanes(d16, total));
}

/// Online softmax of `rows` query vectors over the keys that any of them sees.
template <KvType kType>
void run(const AttentionParams& params, const KvHead& kv, std::size_t rows, Scratch& s) {
  const std::size_t dim = kv_dim(params.head_dim), block_bytes = kv_block_bytes(kType, params.head_dim);
  const std::size_t end = *std::max_element(s.end, s.end + rows);
#if HWY_TARGET == HWY_AVX3
  if (s.rounded) {
    for (std::size_t r = 0; r < rows; ++r) bf16_pairs_in_place(s.q + r * kLead, dim);
  }
#endif
  std::size_t first = *std::min_element(s.begin, s.begin + rows) / kKvBlock * kKvBlock;
  for (; first < end; first += kKeyStep) {
    const std::size_t count = std::min(kKeyStep, end - first), offset = first / kKvBlock * block_bytes;
    scores_of<kType>(static_cast<const char*>(kv.keys) + offset, rows, dim, kv_dim(count) / kKvBlock, s);
    for (std::size_t r = 0; r < rows; ++r) {
      if (s.bias[r] != nullptr) add_to(s.scores + r * kLead, s.bias[r] + first, count);
      if (params.softcap > 0) soft_cap(params.softcap, count, s.scores + r * kLead);
      update_row(r, first, count, dim, s);
    }
    add_values<kType>(static_cast<const char*>(kv.values) + offset, rows, dim, count, s);
  }
}

void Scaled(const float* x, float by, std::size_t n, float* out) {
  const V32 factor = hn::Set(F32(), by);
  map(x, n, out, [factor](V32 v) { return hn::Mul(v, factor); });
}

void Run(const AttentionParams& params, const KvHead& kv, std::size_t rows, Scratch& s) {
  switch (kv.type) {
    case KvType::f32: return run<KvType::f32>(params, kv, rows, s);
    case KvType::f16: return run<KvType::f16>(params, kv, rows, s);
    case KvType::bf16: return run<KvType::bf16>(params, kv, rows, s);
    case KvType::int8: return run<KvType::int8>(params, kv, rows, s);
  }
}

void MergeParts(const float* part, std::size_t stride, std::size_t parts, std::size_t head_dim, float* out) {
  float max = kNone;
  for (std::size_t p = 0; p < parts; ++p) max = std::max(max, part[p * stride + head_dim]);
  std::fill(out, out + head_dim, 0.0f);
  float weight = 0;
  for (std::size_t p = 0; p < parts; ++p) {
    const float* from = part + p * stride;
    if (from[head_dim + 1] == 0) continue;  // saw no key
    const float share = std::exp(from[head_dim] - max);
    const V32 by = hn::Set(F32(), share);
    weight += share * from[head_dim + 1];
    map(out, from, head_dim, out, [by](V32 a, V32 b) { return hn::MulAdd(b, by, a); });
  }
  Scaled(out, 1.0f / weight, head_dim, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
namespace {
HWY_EXPORT(Run);
HWY_EXPORT(MergeParts);
HWY_EXPORT(Scaled);

struct Range {
  std::size_t begin, end;
};

/// The keys of [begin, end) that `position` sees.
Range seen_by(const AttentionParams& params, std::size_t position, std::size_t begin, std::size_t end) {
  if (params.window > 0) {
    begin = std::max(begin, position + 1 > params.window ? position + 1 - params.window : 0);
    if (!params.causal) end = std::min(end, position + params.window);
  }
  if (params.causal) end = std::min(end, position + 1);
  return {begin, std::max(begin, end)};
}

/// Query vector `row` of the scratch: scaled copy of q, an empty sum, and the keys that `position` sees.
void start_row(const AttentionParams& params, const float* q, std::size_t position, std::size_t begin,
               std::size_t end, std::size_t row, Scratch& s) {
  const std::size_t dim = kv_dim(params.head_dim);
  float* to = s.q + row * kLead;
  HWY_DYNAMIC_DISPATCH(Scaled)(q, params.scale, params.head_dim, to);
  std::fill(to + params.head_dim, to + dim, 0.0f);
  std::fill(s.sum + row * kLead, s.sum + row * kLead + dim, 0.0f);
  s.max[row] = kNone;
  s.weight[row] = 0;
  s.bias[row] = params.relative_bias == nullptr ? nullptr : params.relative_bias - position;
  const Range seen = seen_by(params, position, begin, end);
  s.begin[row] = seen.begin;
  s.end[row] = seen.end;
}

/// The cache as bf16, keys [begin, end) of it: itself or a copy, good until the thread's next call.
KvHead as_bf16(const KvHead& kv, [[maybe_unused]] std::size_t head_dim, [[maybe_unused]] std::size_t begin,
               [[maybe_unused]] std::size_t end) {
#if HWY_ARCH_X86_64
  if (kv.type == KvType::f16) {
    thread_local std::vector<std::uint32_t> memory;
    const std::size_t dim = kv_dim(head_dim), blocks = kv_dim(end) / kKvBlock, words = kKvBlock / 2 * dim;
    if (memory.size() < 2 * blocks * words) memory.resize(2 * blocks * words);
    std::uint32_t* const keys = memory.data();
    std::uint32_t* const values = keys + blocks * words;
    for (std::size_t b = begin / kKvBlock; b < blocks; ++b) {
      const std::size_t at = b * words;  // of pairs, in either type
      bf16_pairs_of_f16(static_cast<const std::uint16_t*>(kv.keys) + 2 * at, dim, kKvBlock, keys + at);
      bf16_pairs_of_f16(static_cast<const std::uint16_t*>(kv.values) + 2 * at, kKvBlock, dim, values + at);
    }
    return {KvType::bf16, keys, values};
  }
#endif
  return kv;
}

/// What attend is asked for. A vector is a head of the group in a row: row * group + head.
struct Call {
  const AttentionParams& params;
  HeadRows<const float> q;
  std::size_t first, length;
  HeadRows<float> out;

  std::size_t position(std::size_t vector) const { return first + vector / params.group; }
  template <class T>
  T* at(const HeadRows<T>& in, std::size_t vector) const {
    return in.data + vector / params.group * in.row_stride + vector % params.group * in.head_stride;
  }
};

/// In f32, or bf16 if s.rounded: up to kMaxRows vectors.
void attend_vectors(const Call& call, const KvHead& kv, const std::size_t* vectors, std::size_t count,
                    Scratch& s) {
  for (std::size_t i = 0; i < count; ++i)
    start_row(call.params, call.at(call.q, vectors[i]), call.position(vectors[i]), 0, call.length, i, s);
  HWY_DYNAMIC_DISPATCH(Run)(call.params, kv, count, s);
  for (std::size_t i = 0; i < count; ++i) {
    HWY_DYNAMIC_DISPATCH(Scaled)
    (s.sum + i * kLead, 1.0f / s.weight[i], call.params.head_dim, call.at(call.out, vectors[i]));
  }
}

bool in_float16([[maybe_unused]] const AttentionParams& params, [[maybe_unused]] KvType type) {
#if HWY_ARCH_X86_64
  return type == KvType::f16 && params.softcap <= 0 && params.relative_bias == nullptr &&
         active_target() == SimdTarget::avx512_fp16;
#else
  return false;
#endif
}

/// Vectors [begin, begin + count), kHalfLanes at most, in float16; returns those that need f32, as bits.
std::uint32_t attend_half([[maybe_unused]] const Call& call, [[maybe_unused]] const KvHead& kv,
                          [[maybe_unused]] std::size_t begin, [[maybe_unused]] std::size_t count) {
#if HWY_ARCH_X86_64
  HalfLane lanes[kHalfLanes];
  for (std::size_t i = 0; i < count; ++i) {
    const Range seen = seen_by(call.params, call.position(begin + i), 0, call.length);
    lanes[i] = {call.at(call.q, begin + i), call.at(call.out, begin + i), seen.begin, seen.end};
  }
  return half_attend_cached(call.params, kv.keys, kv.values, lanes, count);
#else
  return ~0u;
#endif
}

}  // namespace

void attend(const AttentionParams& params, const KvHead& stored, HeadRows<const float> q, std::size_t rows,
            std::size_t first, std::size_t length, HeadRows<float> out, bool exact) {
  const Call call{params, q, first, length, out};
  Scratch s;
  const bool half = !exact && in_float16(params, stored.type);
  const bool narrow = stored.type == KvType::f16 || stored.type == KvType::bf16;
  s.rounded = !exact && narrow && active_target() == SimdTarget::avx512_bf16;
  const KvHead kv =
      s.rounded ? as_bf16(stored, params.head_dim, seen_by(params, first, 0, length).begin, length) : stored;
  std::size_t waiting[kMaxRows], n = 0;
  const std::size_t vectors = rows * params.group;
  for (std::size_t begin = 0; begin < vectors; begin += kHalfLanes) {
    const std::size_t count = std::min(kHalfLanes, vectors - begin);
    const std::uint32_t left = half ? attend_half(call, stored, begin, count) : ~0u;
    for (std::size_t i = 0; i < count; ++i) {
      if ((left >> i & 1u) == 0) continue;
      waiting[n++] = begin + i;
      if (n < kMaxRows) continue;
      attend_vectors(call, kv, waiting, n, s);
      n = 0;
    }
  }
  if (n > 0) attend_vectors(call, kv, waiting, n, s);
}

void attend_part(const AttentionParams& params, const KvHead& kv, HeadRows<const float> q,
                 std::size_t position, std::size_t begin, std::size_t end, float* part) {
  Scratch s;
  for (std::size_t head = 0; head < params.group; head += kMaxRows) {
    const std::size_t count = std::min(kMaxRows, params.group - head);
    for (std::size_t i = 0; i < count; ++i) {
      start_row(params, q.data + (head + i) * q.head_stride, position, begin, end, i, s);
    }
    if (s.begin[0] < s.end[0]) HWY_DYNAMIC_DISPATCH(Run)(params, kv, count, s);
    for (std::size_t i = 0; i < count; ++i, part += params.head_dim + 2) {
      std::copy_n(s.sum + i * kLead, params.head_dim, part);
      part[params.head_dim] = s.max[i];
      part[params.head_dim + 1] = s.weight[i];
    }
  }
}

void merge_parts(const float* part, std::size_t stride, std::size_t parts, std::size_t head_dim, float* out) {
  HWY_DYNAMIC_DISPATCH(MergeParts)(part, stride, parts, head_dim, out);
}

}  // namespace metal_candle::simd
#endif
