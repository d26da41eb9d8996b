#include "training/pissa.h"

#include <algorithm>
#include <cmath>

#include "adapters/low_rank.h"
#include "training/dropout.h"

namespace metal_candle {
namespace {

constexpr std::size_t kOversampling = 10;  // rows of the sketch beyond the rank
constexpr int kPowerIterations = 8;        // Halko, Martinsson and Tropp 2011, algorithm 4.4

// Rows [begin, begin + rows) of a source, alone.
class PartOfRows final : public RowSource {
 public:
  PartOfRows(const RowSource& all, std::size_t begin) : all_(all), begin_(begin) {}
  const float* row(std::size_t row, std::size_t column, std::size_t count, float* scratch) const override {
    return all_.row(begin_ + row, column, count, scratch);
  }

 private:
  const RowSource& all_;
  std::size_t begin_;
};

void orthonormalise(std::vector<float>& x, std::size_t count, std::size_t n) {
  const auto dot = [n](const float* a, const float* b) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
    return sum;
  };
  for (std::size_t i = 0; i < count; ++i) {
    float* row = &x[i * n];
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t j = 0; j < i; ++j) {
        const auto c = static_cast<float>(dot(&x[j * n], row));
        for (std::size_t k = 0; k < n; ++k) row[k] -= c * x[j * n + k];
      }
    const double norm = std::sqrt(dot(row, row));
    for (std::size_t k = 0; k < n; ++k) row[k] = norm > 0 ? static_cast<float>(row[k] / norm) : 0;
  }
}

std::vector<float> multiply(const std::vector<float>& x, std::size_t rows, const RowSource& w,
                            bool transposed, std::size_t k, std::size_t n) {
  std::vector<float> y(rows * n);
  const GemmTerm term{{x.data(), k, 1}, &w, transposed, k, 0, n};
  gemm({rows, n, {&term, 1}, y.data(), n});
  return y;
}

}  // namespace

void init_pissa(const TrainableLinear& linear, std::size_t segment, std::size_t rank, std::uint64_t key,
                LoraParameters& lora) {
  const PartOfRows w(linear.weight(), linear.weight().begin(segment));
  const std::size_t n = linear.weight().begin(segment + 1) - linear.weight().begin(segment);
  const std::size_t k = linear.in_features(), sketch = std::min({rank + kOversampling, n, k});
  std::vector<float> q(sketch * n);
  for (std::size_t i = 0; i < q.size(); ++i)
    q[i] = static_cast<float>(static_cast<double>(mix_bits(key + i) >> 11) * 0x1p-52 - 1);
  for (int i = 0; i < kPowerIterations; ++i) {
    orthonormalise(q, sketch, n);
    std::vector<float> z = multiply(q, sketch, w, false, n, k);
    orthonormalise(z, sketch, k);
    q = multiply(z, sketch, w, true, k, n);
  }
  orthonormalise(q, sketch, n);
  LowRank leading;
  leading.add({sketch, k, n, multiply(q, sketch, w, false, n, k), q}, 1);
  const LoraFactors f = leading.nearest(rank);  // b = S·Uᵀ, a = Vᵀ
  std::vector<float> a(2 * rank * k), b(2 * rank * n);
  for (std::size_t r = 0; r < rank; ++r) {
    double square = 0;
    for (std::size_t j = 0; j < n; ++j) square += static_cast<double>(f.b[r * n + j]) * f.b[r * n + j];
    const double s = std::sqrt(square), root = std::sqrt(s / lora.scale);
    for (std::size_t i = 0; i < k; ++i) {
      a[r * k + i] = static_cast<float>(root * f.a[r * k + i]);
      a[(rank + r) * k + i] = a[r * k + i];
    }
    for (std::size_t j = 0; j < n; ++j) {
      b[r * n + j] = s > 0 ? static_cast<float>(root * f.b[r * n + j] / s) : 0.0f;
      b[(rank + r) * n + j] = -b[r * n + j];
    }
  }
  lora.a = Parameter("", {2 * rank, k}, std::move(a));
  lora.b = Parameter("", {2 * rank, n}, std::move(b));
  lora.a.trained = rank * k;
  lora.b.trained = rank * n;
}

}  // namespace metal_candle
