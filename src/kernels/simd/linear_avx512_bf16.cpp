// AVX512_BF16 (Zen 4+, Cooper Lake, Sapphire Rapids): one instruction multiplies and adds 32 pairs of
// bfloat16. Subnormal operands and results count as zero in it.
#include "kernels/simd/linear_bf16.h"
#include "kernels/simd/linear_isa_avx512.h"

namespace metal_candle::simd {
namespace {

constexpr int kRows = 12;

/// Pairs of two inputs of 16 outputs: the even input in the low halves.
MC_INLINE __m512i pairs(__m512 even, __m512 odd) {
  const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(odd, even);  // 16 even, then 16 odd
  const __m512i lanes = _mm512_add_epi32(
      _mm512_set1_epi32(0x00100000),
      _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(0x00010001)));
  return _mm512_permutexvar_epi16(lanes, halves);
}

/// Where pairs of weights come from: inputs 2i and 2i + 1 of the 16 outputs from `lane` on.
struct Bf16Tile {
  static constexpr int kPairBytes = 128;
  static MC_INLINE __m512i load(const Byte* tile, std::size_t i, int lane, bool) {
    return Avx512::load(tile + 128 * i + 4 * lane);
  }
};
template <DType type>
struct RoundedTile {  // f32 and f16, rounded on the way; past an odd last input lies nothing
  static constexpr int kSize = type == DType::f32 ? 4 : 2, kPairBytes = 2 * kSize * kTile;
  static MC_INLINE __m512 input(const Byte* p) {
    return type == DType::f32 ? Avx512::load_f32(p) : Avx512::load_f16(p);
  }
  static MC_INLINE __m512i load(const Byte* tile, std::size_t i, int lane, bool half) {
    const Byte* p = tile + kPairBytes * i + kSize * lane;
    return pairs(input(p), half ? Avx512::zero_f() : input(p + kSize * kTile));
  }
};

template <class Tile, int R>
MC_INLINE void add_pair(const Byte* tile, std::size_t i, bool half, const Byte* acts, std::size_t stride,
                        __m512 (&sums)[R][2]) {
  const auto w0 = (__m512bh)Tile::load(tile, i, 0, half), w1 = (__m512bh)Tile::load(tile, i, 16, half);
  MC_UNROLL for (int r = 0; r < R; ++r) {
    const auto x = (__m512bh)Avx512::broadcast4(acts + r * stride + 4 * i);
    sums[r][0] = _mm512_dpbf16_ps(sums[r][0], w0, x);
    sums[r][1] = _mm512_dpbf16_ps(sums[r][1], w1, x);
  }
}

template <class Tile, int R>
void product_rows(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, float* out,
                  std::size_t out_stride) {
  __m512 sums[R][2];
  clear<Avx512>(sums);
  for (std::size_t i = 0; i < k / 2; ++i) {
    if constexpr (R <= 2) prefetch<Tile::kPairBytes>(tile + Tile::kPairBytes * i);
    add_pair<Tile, R>(tile, i, false, acts, stride, sums);
  }
  if (k % 2 != 0) add_pair<Tile, R>(tile, k / 2, true, acts, stride, sums);
  store<Avx512>(sums, out, out_stride);
}

template <class Tile, int R = kRows>
void product(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, std::size_t rows,
             float* out, std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * stride, out += R * out_stride) {
    product_rows<Tile, R>(k, tile, acts, stride, out, out_stride);
  }
  if constexpr (R > 1) {
    if (rows > 0) product<Tile, next_rows(R)>(k, tile, acts, stride, rows, out, out_stride);
  }
}

template <DType type>
void expand(std::size_t k, const Byte* tile, Byte* out) {
  for (std::size_t i = 0; i < bf16_pairs(k); ++i, out += Bf16Tile::kPairBytes) {
    const bool half = 2 * i + 1 == k;
    Avx512::store(out, RoundedTile<type>::load(tile, i, 0, half));
    Avx512::store(out + 64, RoundedTile<type>::load(tile, i, 16, half));
  }
}

}  // namespace

void bf16_activations(const float* x, std::size_t k, std::uint8_t* out) {
  std::size_t i = 0;
  for (; i + 16 <= k; i += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * i),
                        (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + i)));
  }
  if (i < k) {
    const auto last = static_cast<__mmask16>((1u << (k - i)) - 1);
    const auto rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(last, x + i));
    _mm256_mask_storeu_epi16(out + 2 * i, static_cast<__mmask16>((1u << 2 * bf16_pairs(k - i)) - 1), rounded);
  }
}

void bf16_row(const float* x, std::size_t k, std::byte* out) {
  const float down = 1;
  __builtin_memcpy(out, &down, sizeof down);
  bf16_activations(x, k, reinterpret_cast<std::uint8_t*>(out + sizeof down));
}

void bf16_expand(DType type, std::size_t k, const std::uint8_t* tile, std::uint8_t* out) {
  type == DType::f32 ? expand<DType::f32>(k, tile, out) : expand<DType::f16>(k, tile, out);
}

void bf16_product(DType type, std::size_t k, const std::uint8_t* tile, const std::uint8_t* acts,
                  std::size_t acts_stride, std::size_t rows, float* out, std::size_t out_stride) {
  switch (type) {
    case DType::f32:
      return product<RoundedTile<DType::f32>>(k, tile, acts, acts_stride, rows, out, out_stride);
    case DType::f16:
      return product<RoundedTile<DType::f16>>(k, tile, acts, acts_stride, rows, out, out_stride);
    default: return product<Bf16Tile>(k, tile, acts, acts_stride, rows, out, out_stride);
  }
}

}  // namespace metal_candle::simd
