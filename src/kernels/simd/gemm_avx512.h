// The 16-bit products that have an instruction set of their own; gemm_half() chooses. x86-64 only.
#pragma once

#include "kernels/simd/gemm.h"

namespace metal_candle::simd {

extern const GemmKernel kGemmAvx512Bf16;
extern const GemmKernel kGemmAvx512Fp16;

}  // namespace metal_candle::simd
