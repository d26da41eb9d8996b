#include "kernels/simd/attention_avx512_bf16.h"

#include <immintrin.h>

namespace metal_candle::simd {
namespace {

constexpr std::size_t kRows = 6,
                      kPanels = 4;  // 24 accumulators, 4 words of b, 1 broadcast: 29 of 32 registers

template <std::size_t kR, std::size_t kP>
void tile(const float* a, const std::uint32_t* b, std::size_t panel, std::size_t pair, std::size_t depth,
          bool add, std::size_t lead, float* c) {
  __m512 acc[kR][kP];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kP; ++p) {
      acc[r][p] = add ? _mm512_loadu_ps(c + r * lead + p * 16) : _mm512_setzero_ps();
    }
  }
  const auto step = [&](std::size_t k, __mmask32 valid) {
    __m512bh word[kP];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kP; ++p) word[p] = (__m512bh)_mm512_maskz_loadu_epi16(valid, b + p * panel);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kR; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_ps(a[r * lead + k]);
#pragma GCC unroll 8
      for (std::size_t p = 0; p < kP; ++p) acc[r][p] = _mm512_dpbf16_ps(acc[r][p], x, word[p]);
    }
  };
  std::size_t k = 0;
  for (; k < depth / 2; ++k, b += pair) step(k, ~0u);
  if (depth % 2 != 0) step(k, 0x55555555u);
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kR; ++r) {
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kP; ++p) _mm512_storeu_ps(c + r * lead + p * 16, acc[r][p]);
  }
}

template <std::size_t kR = kRows>
void all_rows(const float* a, const std::uint32_t* b, std::size_t panel, std::size_t pair, std::size_t rows,
              std::size_t depth, std::size_t panels, bool add, std::size_t lead, float* c) {
  for (; rows >= kR; rows -= kR, a += kR * lead, c += kR * lead) {
    if (panels == kPanels) {
      tile<kR, kPanels>(a, b, panel, pair, depth, add, lead, c);
    } else {
      for (std::size_t p = 0; p < panels; ++p) {
        tile<kR, 1>(a, b + p * panel, panel, pair, depth, add, lead, c + p * 16);
      }
    }
  }
  if constexpr (kR > 1) {
    if (rows > 0) all_rows<kR - 1>(a, b, panel, pair, rows, depth, panels, add, lead, c);
  }
}

}  // namespace

void bf16_pairs_in_place(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; i += 32) {
    const __m512 low = _mm512_loadu_ps(x + i), high = _mm512_loadu_ps(x + i + 16);
    _mm512_storeu_si512(x + i / 2, (__m512i)_mm512_cvtne2ps_pbh(high, low));
  }
}

void bf16_pairs_of_f16(const std::uint16_t* x, std::size_t rows, std::size_t width, std::uint32_t* out) {
  const auto rounded = [](const std::uint16_t* from) {
    const __m512 values = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(values));
  };
  for (std::size_t r = 0; r < rows; r += 2, x += 2 * width, out += width) {
    for (std::size_t i = 0; i < width; i += 16) {
      const __m512i even = rounded(x + i), odd = rounded(x + width + i);
      _mm512_storeu_si512(out + i, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
    }
  }
}

void bf16_product(const float* a, const std::uint32_t* b, std::size_t panel, std::size_t pair,
                  std::size_t rows, std::size_t depth, std::size_t panels, bool add, std::size_t lead,
                  float* c) {
  // All rows pass over four panels before the next four: those stay in the first-level cache.
  for (std::size_t p = 0; p < panels; p += kPanels) {
    const std::size_t count = panels - p < kPanels ? panels - p : kPanels;
    all_rows(a, b + p * panel, panel, pair, rows, depth, count, add, lead, c + p * 16);
  }
}

}  // namespace metal_candle::simd
