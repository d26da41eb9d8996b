#include "kernels/simd/train_ops.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/train_ops.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

HWY_INLINE V32 constant(float x) { return hn::Set(F32(), x); }

/// Calls f(load, store, at) for whole vectors, then for the tail: load(p) reads lanes at p + at, store(v, p)
/// writes them.
template <class F>
HWY_INLINE void each(std::size_t n, const F& f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    f([&](const float* p) { return hn::LoadU(d, p + i); }, [&](V32 v, float* p) { hn::StoreU(v, d, p + i); });
  if (i < n)
    f([&](const float* p) { return load_part(p + i, n - i, 0); },
      [&](V32 v, float* p) { store_part(v, p + i, n - i); });
}

template <class F>
HWY_INLINE float sum_each(std::size_t n, const F& f) {
  V32 total = hn::Zero(F32());
  each(n, [&](const auto& load, const auto&) { total = hn::Add(total, f(load)); });
  return sum_lanes(total);
}

float Dot(const float* x, const float* y, std::size_t n) {
  return sum_each(n, [&](const auto& load) { return hn::Mul(load(x), load(y)); });
}

float Sum(const float* x, std::size_t n) {
  return sum_each(n, [&](const auto& load) { return load(x); });
}

void RmsNormBackward(const float* x, const float* weight, float eps, const float* dy, std::size_t n,
                     float* dx, float* dweight) {
  const float count = static_cast<float>(n);
  const float r = 1.0f / std::sqrt(Dot(x, x, n) / count + eps);
  const float gx =
      sum_each(n, [&](const auto& load) { return hn::Mul(hn::Mul(load(dy), load(weight)), load(x)); });
  const V32 scale = constant(r), pull = constant(r * r * r * gx / count);
  each(n, [&](const auto& load, const auto& store) {
    const V32 g = hn::Mul(load(dy), load(weight)), v = load(x);
    store(hn::Add(load(dx), hn::NegMulAdd(v, pull, hn::Mul(g, scale))), dx);
  });
  if (dweight == nullptr) return;
  each(n, [&](const auto& load, const auto& store) {
    store(hn::MulAdd(hn::Mul(load(dy), load(x)), scale, load(dweight)), dweight);
  });
}

void SwigluBackward(const float* gate, const float* up, const float* dact, std::size_t n, float* dgate,
                    float* dup) {
  const V32 one = constant(1.0f);
  each(n, [&](const auto& load, const auto& store) {
    const V32 g = load(gate), u = load(up), d = load(dact);
    const V32 sigmoid = hn::Div(one, hn::Add(one, exp_any(hn::Neg(g))));
    const V32 silu = hn::Mul(g, sigmoid);
    // d silu / dg = sigmoid (1 + g (1 - sigmoid)) = sigmoid + silu (1 - sigmoid)
    const V32 slope = hn::MulAdd(silu, hn::Sub(one, sigmoid), sigmoid);
    store(hn::Mul(hn::Mul(d, u), slope), dgate);
    store(hn::Mul(d, silu), dup);
  });
}

void ExpScaled(const float* x, std::size_t n, float scale, float shift, float factor, float* out) {
  const V32 a = constant(scale), b = constant(shift), f = constant(factor);
  each(n, [&](const auto& load, const auto& store) {
    const V32 arg = hn::Min(hn::Sub(hn::Mul(load(x), a), b), hn::Zero(F32()));  // rounding may pass 0
    store(hn::Mul(exp_neg(arg), f), out);
  });
}

void SoftmaxBackward(const float* p, const float* dp, float delta, float scale, std::size_t n, float* out) {
  const V32 shift = constant(delta), s = constant(scale);
  each(n, [&](const auto& load, const auto& store) {
    store(hn::Mul(hn::Mul(load(p), hn::Sub(load(dp), shift)), s), out);
  });
}

void Scale(float* x, float factor, std::size_t n) {
  const V32 f = constant(factor);
  each(n, [&](const auto& load, const auto& store) { store(hn::Mul(load(x), f), x); });
}

void Multiply(float* x, const float* y, std::size_t n) {
  each(n, [&](const auto& load, const auto& store) { store(hn::Mul(load(x), load(y)), x); });
}

void AddProduct(float* x, const float* y, const float* z, std::size_t n) {
  each(n, [&](const auto& load, const auto& store) { store(hn::MulAdd(load(y), load(z), load(x)), x); });
}

void AdamW(const AdamStep& s, const float* grad, std::size_t n, float* value, float* m, float* v) {
  const V32 b1 = constant(s.beta1), c1 = constant(1 - s.beta1), b2 = constant(s.beta2),
            c2 = constant(1 - s.beta2), eps = constant(s.eps), rate = constant(s.rate * s.m_scale),
            keep = constant(1 - s.rate * s.decay), root = constant(std::sqrt(s.v_scale));
  each(n, [&](const auto& load, const auto& store) {
    const V32 g = load(grad);
    const V32 first = hn::MulAdd(b1, load(m), hn::Mul(c1, g));
    const V32 second = hn::MulAdd(b2, load(v), hn::Mul(hn::Mul(c2, g), g));
    store(first, m);
    store(second, v);
    const V32 denominator = hn::MulAdd(hn::Sqrt(second), root, eps);
    store(hn::NegMulAdd(rate, hn::Div(first, denominator), hn::Mul(load(value), keep)), value);
  });
}

void Lion(const LionStep& s, const float* grad, std::size_t n, float* value, float* m) {
  const V32 b1 = constant(s.beta1), c1 = constant(1 - s.beta1), b2 = constant(s.beta2),
            c2 = constant(1 - s.beta2), rate = constant(s.rate), keep = constant(1 - s.rate * s.decay),
            zero = hn::Zero(F32());
  each(n, [&](const auto& load, const auto& store) {
    const V32 g = load(grad), old = load(m);
    const V32 update = hn::MulAdd(b1, old, hn::Mul(c1, g));
    const V32 step =
        hn::IfThenElse(hn::Gt(update, zero), rate, hn::IfThenElse(hn::Lt(update, zero), hn::Neg(rate), zero));
    store(hn::Sub(hn::Mul(load(value), keep), step), value);
    store(hn::MulAdd(b2, old, hn::Mul(c2, g)), m);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(RmsNormBackward);
HWY_EXPORT(SwigluBackward);
HWY_EXPORT(ExpScaled);
HWY_EXPORT(SoftmaxBackward);
HWY_EXPORT(Dot);
HWY_EXPORT(Sum);
HWY_EXPORT(Scale);
HWY_EXPORT(Multiply);
HWY_EXPORT(AddProduct);
HWY_EXPORT(AdamW);
HWY_EXPORT(Lion);

void rms_norm_backward(const float* x, const float* weight, float eps, const float* dy, std::size_t n,
                       float* dx, float* dweight) {
  HWY_DYNAMIC_DISPATCH(RmsNormBackward)(x, weight, eps, dy, n, dx, dweight);
}
void swiglu_backward(const float* gate, const float* up, const float* dact, std::size_t n, float* dgate,
                     float* dup) {
  HWY_DYNAMIC_DISPATCH(SwigluBackward)(gate, up, dact, n, dgate, dup);
}
void exp_scaled(const float* x, std::size_t n, float scale, float shift, float factor, float* out) {
  HWY_DYNAMIC_DISPATCH(ExpScaled)(x, n, scale, shift, factor, out);
}
void softmax_backward(const float* p, const float* dp, float delta, float scale, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SoftmaxBackward)(p, dp, delta, scale, n, out);
}
float dot(const float* x, const float* y, std::size_t n) { return HWY_DYNAMIC_DISPATCH(Dot)(x, y, n); }
float sum_of(const float* x, std::size_t n) { return HWY_DYNAMIC_DISPATCH(Sum)(x, n); }
void scale(float* x, float factor, std::size_t n) { HWY_DYNAMIC_DISPATCH(Scale)(x, factor, n); }
void multiply(float* x, const float* y, std::size_t n) { HWY_DYNAMIC_DISPATCH(Multiply)(x, y, n); }
void add_product(float* x, const float* y, const float* z, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(AddProduct)(x, y, z, n);
}
void adamw(const AdamStep& step, const float* grad, std::size_t n, float* value, float* m, float* v) {
  HWY_DYNAMIC_DISPATCH(AdamW)(step, grad, n, value, m, v);
}
void lion(const LionStep& step, const float* grad, std::size_t n, float* value, float* m) {
  HWY_DYNAMIC_DISPATCH(Lion)(step, grad, n, value, m);
}

}  // namespace metal_candle::simd
#endif
