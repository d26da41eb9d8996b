// AVX-512 without VNNI (Skylake-X).
#include "kernels/simd/linear_isa_avx512.h"

namespace metal_candle::simd {

const LinearTable kLinearAvx512 = kTableOf<Avx512>;

}  // namespace metal_candle::simd
