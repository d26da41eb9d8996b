// AVX-VNNI: what AVX-512 VNNI does, in 256 bits and without AVX-512.
#include "kernels/simd/linear_isa_avx2.h"

namespace metal_candle::simd {
namespace {

struct Avx2Vnni : Avx2 {
  static constexpr bool kWideIsUnsigned = true;
  static constexpr bool kPairs = false;
  static MC_INLINE I dot(I sum, B w, B x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
  static MC_INLINE I dot_wide(I sum, B w, B x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
};

}  // namespace

const LinearTable kLinearAvx2Vnni = kTableOf<Avx2Vnni>;

}  // namespace metal_candle::simd
