#include "embeddings/pooling.h"

#include <algorithm>
#include <cmath>

#include "kernels/simd/norm.h"

namespace metal_candle {

void pool(Pooling mode, const float* hidden, std::size_t length, std::size_t skipped, std::size_t width,
          float* out) {
  if (skipped >= length) skipped = 0;
  const auto row = [&](std::size_t i) { return hidden + i * width; };
  switch (mode) {
    case Pooling::cls: std::copy_n(row(skipped), width, out); return;
    case Pooling::last_token: std::copy_n(row(length - 1), width, out); return;
    case Pooling::max:
      std::copy_n(row(skipped), width, out);
      for (std::size_t i = skipped + 1; i < length; ++i)
        for (std::size_t c = 0; c < width; ++c) out[c] = std::max(out[c], row(i)[c]);
      return;
    case Pooling::mean:
    case Pooling::mean_sqrt_len:
    case Pooling::weighted_mean: break;
  }
  std::fill_n(out, width, 0.0f);
  float weight = 0;
  for (std::size_t i = skipped; i < length; ++i) {
    if (mode == Pooling::weighted_mean) {
      const float w = static_cast<float>(i + 1);
      for (std::size_t c = 0; c < width; ++c) out[c] += w * row(i)[c];
      weight += w;
    } else {
      simd::add(out, row(i), width);
      weight += 1;
    }
  }
  const float divisor = mode == Pooling::mean_sqrt_len ? std::sqrt(weight) : weight;
  for (std::size_t c = 0; c < width; ++c) out[c] /= divisor;
}

void normalize_l2(float* x, std::size_t n) {
  double squares = 0;
  for (std::size_t i = 0; i < n; ++i) squares += static_cast<double>(x[i]) * x[i];
  const auto length = static_cast<float>(std::max(std::sqrt(squares), 1e-12));
  for (std::size_t i = 0; i < n; ++i) x[i] /= length;
}

}  // namespace metal_candle
