// Normalisation of one row of f32 values. One thread, one row a call; the caller walks rows.
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i] (RMSNorm, arXiv:1910.07467). `out` may be `x`.
/// A NaN or infinity in x makes the whole row NaN or zero, as the formula does.
void rms_norm(const float* x, const float* weight, float eps, std::size_t n, float* out);

/// residual[i] += delta[i]; then out = rms_norm(residual). One pass fewer over the residual stream.
void add_rms_norm(float* residual, const float* delta, const float* weight, float eps, std::size_t n,
                  float* out);

/// out[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i]; `bias` may be null. The variance is
/// the mean of squared deviations (two passes), so large means cost no precision. `out` may be `x`.
void layer_norm(const float* x, const float* weight, const float* bias, float eps, std::size_t n, float* out);

/// x[i] += delta[i].
void add(float* x, const float* delta, std::size_t n);

/// The same for `rows` rows of n values; strides count floats, 0 adds one row to all.
void add_rows(float* x, std::size_t x_stride, const float* delta, std::size_t delta_stride, std::size_t rows,
              std::size_t n);

/// y = x + bias, or y += x + bias, for `rows` rows of n values; `bias` [n] may be null.
void store_rows(const float* x, std::size_t x_stride, const float* bias, std::size_t rows, std::size_t n,
                float* y, std::size_t y_stride, bool accumulate);

}  // namespace metal_candle::simd
