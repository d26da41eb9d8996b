// Reductions over a row of logits. One thread; n > 0 unless said. NaN: max and argmax skip NaNs as long as
// one number is there; log_sum_exp and softmax return NaN if any value is NaN or the largest is +infinity.
#pragma once

#include <cstddef>
#include <cstdint>

namespace metal_candle::simd {

/// The largest value; -infinity for n == 0 or if all are NaN.
float row_max(const float* x, std::size_t n);

/// The index of the largest value, the lowest such index; 0 if all are NaN.
std::size_t argmax(const float* x, std::size_t n);

/// log(sum(exp(x[i]))), relative to 1e-6 or better; sums in f32 pieces that are added in double.
float log_sum_exp(const float* x, std::size_t n);

/// out[i] = exp(scale * x[i]) / sum(exp(scale * x)), scale >= 0; `out` may be `x`.
void softmax(const float* x, std::size_t n, float scale, float* out);

/// The k largest values' indices into `index`, largest first; equal values: lower index first. NaN and
/// -infinity rank last, by index. k <= n.
void top_k(const float* x, std::size_t n, std::size_t k, std::uint32_t* index);

}  // namespace metal_candle::simd
