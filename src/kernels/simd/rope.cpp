#include "kernels/simd/rope.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/rope.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {

void RopeNeox(const float* head, std::size_t rot_dim, const float* cos, const float* sin, float* out) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d), half = rot_dim / 2;
  const float* low = head;
  const float* high = head + half;
  std::size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const V32 a = hn::LoadU(d, low + i), b = hn::LoadU(d, high + i);
    const V32 c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), d, out + i);
    hn::StoreU(hn::MulAdd(a, s, hn::Mul(b, c)), d, out + half + i);
  }
  for (; i < half; ++i) {
    const float a = low[i], b = high[i];
    out[i] = a * cos[i] - b * sin[i];
    out[half + i] = b * cos[i] + a * sin[i];
  }
}

void RopeInterleaved(float* head, std::size_t rot_dim, const float* cos, const float* sin) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d), half = rot_dim / 2;
  std::size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    V32 a, b;
    hn::LoadInterleaved2(d, head + 2 * i, a, b);
    const V32 c = hn::LoadU(d, cos + i), s = hn::LoadU(d, sin + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(a, s, hn::Mul(b, c)), d,
                          head + 2 * i);
  }
  for (; i < half; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1];
    head[2 * i] = a * cos[i] - b * sin[i];
    head[2 * i + 1] = b * cos[i] + a * sin[i];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(RopeNeox);
HWY_EXPORT(RopeInterleaved);

void rope_table(std::int64_t position, const float* inv_freq, std::size_t n, float factor, float* cos,
                float* sin) {
  for (std::size_t i = 0; i < n; ++i) {
    const double angle = static_cast<double>(position) * static_cast<double>(inv_freq[i]);
    cos[i] = static_cast<float>(factor * std::cos(angle));
    sin[i] = static_cast<float>(factor * std::sin(angle));
  }
}
void rope_neox(float* head, std::size_t rot_dim, const float* cos, const float* sin) {
  HWY_DYNAMIC_DISPATCH(RopeNeox)(head, rot_dim, cos, sin, head);
}
void rope_neox(const float* head, std::size_t rot_dim, const float* cos, const float* sin, float* out) {
  HWY_DYNAMIC_DISPATCH(RopeNeox)(head, rot_dim, cos, sin, out);
}
void rope_interleaved(float* head, std::size_t rot_dim, const float* cos, const float* sin) {
  HWY_DYNAMIC_DISPATCH(RopeInterleaved)(head, rot_dim, cos, sin);
}

}  // namespace metal_candle::simd
#endif
