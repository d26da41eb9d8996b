// AVX2 (Haswell+, Zen+): bytes are multiplied and added in pairs to 16 bits, which no code saturates.
#include "kernels/simd/linear_isa_avx2.h"

namespace metal_candle::simd {

const LinearTable kLinearAvx2 = kTableOf<Avx2>;

}  // namespace metal_candle::simd
