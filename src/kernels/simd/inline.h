// What the kernels with an instruction set of their own ask of the compiler.
#pragma once

#define MC_INLINE inline __attribute__((always_inline))
#define MC_LAMBDA_INLINE __attribute__((always_inline))
#ifdef __clang__
#define MC_UNROLL _Pragma("unroll")
#else
#define MC_UNROLL _Pragma("GCC unroll 16")
#endif
