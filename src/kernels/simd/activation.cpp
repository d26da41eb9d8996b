#include "kernels/simd/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/activation.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

/// x / (1 + exp(-y)).
HWY_INLINE V32 times_sigmoid(V32 x, V32 y) {
  const V32 one = hn::Set(F32(), 1.0f);
  return hn::Div(x, hn::Add(one, exp_any(hn::Neg(y))));
}

/// 0.5 erfc(z) for z >= 0, relative error 2e-6 for z <= 9: exp(-z^2) t P(t) with t = 1 / (1 + z/2), P of
/// degree 8 fitted for least relative error on z in [0, 10].
HWY_INLINE V32 half_erfc(V32 z) {
  const F32 d;
  const V32 t = hn::Div(hn::Set(d, 1.0f), hn::MulAdd(z, hn::Set(d, 0.5f), hn::Set(d, 1.0f)));
  V32 p = hn::Set(d, -0.059068966656923294f);
  p = hn::MulAdd(p, t, hn::Set(d, 0.2845749855041504f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.48719996213912964f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.2780672013759613f));
  p = hn::MulAdd(p, t, hn::Set(d, -0.026625696569681168f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.2026868760585785f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.2431037575006485f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.282375305891037f));
  p = hn::MulAdd(p, t, hn::Set(d, 0.28208643198013306f));
  return hn::Mul(hn::Set(d, 0.5f), hn::Mul(hn::Mul(p, t), exp_neg(hn::Neg(hn::Mul(z, z)))));
}

HWY_INLINE V32 gelu_vec(V32 x) {
  const F32 d;
  const V32 tail =
      half_erfc(hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678f)));  // Phi(-|x|), exact in the far tail
  const V32 phi = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), tail, hn::Sub(hn::Set(d, 1.0f), tail));
  return hn::Mul(x, phi);
}

/// tanh form as a sigmoid, 0.5 (1 + tanh u) = sigmoid(2u), which loses nothing where tanh nears -1.
HWY_INLINE V32 gelu_tanh_vec(V32 x) {
  const F32 d;
  const V32 cubic = hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.044715f), hn::Set(d, 1.0f));
  return times_sigmoid(x, hn::Mul(hn::Mul(x, cubic), hn::Set(d, 1.5957691216f)));
}

void Silu(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return times_sigmoid(v, v); });
}
void Swiglu(const float* gate, const float* up, std::size_t n, float* out) {
  map(gate, up, n, out, [](V32 g, V32 u) { return hn::Mul(times_sigmoid(g, g), u); });
}
void Gelu(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return gelu_vec(v); });
}
void GeluTanh(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return gelu_tanh_vec(v); });
}
void GegluTanh(const float* gate, const float* up, std::size_t n, float* out) {
  map(gate, up, n, out, [](V32 g, V32 u) { return hn::Mul(gelu_tanh_vec(g), u); });
}
void Exp(const float* x, std::size_t n, float* out) {
  map(x, n, out, [](V32 v) { return exp_any(v); });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(Silu);
HWY_EXPORT(Swiglu);
HWY_EXPORT(Gelu);
HWY_EXPORT(GeluTanh);
HWY_EXPORT(GegluTanh);
HWY_EXPORT(Exp);

void silu(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(Silu)(x, n, out); }
void swiglu(const float* gate, const float* up, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(Swiglu)(gate, up, n, out);
}
void gelu(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(Gelu)(x, n, out); }
void gelu_tanh(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(GeluTanh)(x, n, out); }
void geglu_tanh(const float* gate, const float* up, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(GegluTanh)(gate, up, n, out);
}
void exp(const float* x, std::size_t n, float* out) { HWY_DYNAMIC_DISPATCH(Exp)(x, n, out); }

}  // namespace metal_candle::simd
#endif
