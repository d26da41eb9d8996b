// The elementwise parts of a backward pass and of an optimizer's step. One thread, raw rows; what they are
// gradients of is norm.h, activation.h and kernels/packed_attention.
#pragma once

#include <cstddef>

namespace metal_candle::simd {

/// The gradient of rms_norm(x, weight, eps): dx[i] += d/dx, and dweight[i] += d/dweight unless it is null.
void rms_norm_backward(const float* x, const float* weight, float eps, const float* dy, std::size_t n,
                       float* dx, float* dweight);

/// The gradient of act = silu(gate) * up; Outputs may be inputs.
void swiglu_backward(const float* gate, const float* up, const float* dact, std::size_t n, float* dgate,
                     float* dup);

/// out[i] = exp(scale * x[i] - shift) * factor; scale * x <= shift. `out` may be `x`.
void exp_scaled(const float* x, std::size_t n, float scale, float shift, float factor, float* out);

/// out[i] = p[i] * (dp[i] - delta) * scale: the gradient of scores under a softmax. `out` may be `dp`.
void softmax_backward(const float* p, const float* dp, float delta, float scale, std::size_t n, float* out);

float dot(const float* x, const float* y, std::size_t n);
float sum_of(const float* x, std::size_t n);
/// x[i] *= factor.
void scale(float* x, float factor, std::size_t n);
/// x[i] *= y[i].
void multiply(float* x, const float* y, std::size_t n);
/// x[i] += y[i] * z[i].
void add_product(float* x, const float* y, const float* z, std::size_t n);

/// One step of AdamW (arXiv:1711.05101) on n values: `rate` includes no bias correction, which m_scale =
/// 1 / (1 - beta1^t) and v_scale = 1 / (1 - beta2^t) bring.
struct AdamStep {
  float rate, beta1, beta2, eps, decay, m_scale, v_scale;
};
void adamw(const AdamStep& step, const float* grad, std::size_t n, float* value, float* m, float* v);

/// One step of Lion (arXiv:2302.06675).
struct LionStep {
  float rate, beta1, beta2, decay;
};
void lion(const LionStep& step, const float* grad, std::size_t n, float* value, float* m);

}  // namespace metal_candle::simd
