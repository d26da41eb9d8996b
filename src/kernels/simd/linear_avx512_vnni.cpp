// AVX-512 VNNI (Ice Lake+, Zen 4+): one instruction multiplies and adds 64 unsigned codes with signed
// activations.
#include "kernels/simd/linear_isa_avx512.h"

namespace metal_candle::simd {
namespace {

struct Avx512Vnni : Avx512 {
  static constexpr bool kWideIsUnsigned = true;
  static constexpr bool kPairs = false;
  static constexpr int kRows = 8;
  static constexpr int kPackedRows = 36;  // unpacking hides behind the products; a wider tile leaves L1
  static MC_INLINE I dot(I sum, B w, B x) { return _mm512_dpbusd_epi32(sum, w, x); }
  static MC_INLINE I dot_wide(I sum, B w, B x) { return _mm512_dpbusd_epi32(sum, w, x); }
};

}  // namespace

const LinearTable kLinearAvx512Vnni = kTableOf<Avx512Vnni>;

}  // namespace metal_candle::simd
