// Elementwise activations on f32 rows. One thread; NaN in gives NaN out; outputs may alias inputs.
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// out[i] = x[i] / (1 + exp(-x[i])).
void silu(const float* x, std::size_t n, float* out);

/// out[i] = silu(gate[i]) * up[i].
void swiglu(const float* gate, const float* up, std::size_t n, float* out);

/// out[i] = x * Phi(x) with Phi the normal distribution (the exact, erf form) within 3e-7.
void gelu(const float* x, std::size_t n, float* out);

/// y[r * y_stride + i] = gelu(x[r * x_stride + i] + bias[i]), i < n; bias null: nothing is added.
void gelu_rows(const float* x, std::size_t x_stride, const float* bias, std::size_t rows, std::size_t n,
               float* y, std::size_t y_stride);

/// out[i] = 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), "gelu_pytorch_tanh".
void gelu_tanh(const float* x, std::size_t n, float* out);

/// out[i] = gelu_tanh(gate[i]) * up[i] (Gemma's GeGLU).
void geglu_tanh(const float* gate, const float* up, std::size_t n, float* out);

/// out[i] = exp(x[i]), within 2 ulp; below -103.98 zero, above 88.73 infinity.
void exp(const float* x, std::size_t n, float* out);

}  // namespace metal_candle::simd
