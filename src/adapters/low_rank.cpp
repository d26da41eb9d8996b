#include "adapters/low_rank.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/simd/dequantize.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

double dot(const double* x, const double* y, std::size_t n) { return std::inner_product(x, x + n, y, 0.0); }

// Makes the rows of x [count, n] orthonormal (or zero) and returns R [count, count] with x_before[i] = Σ
// R[j,i] x[j]: Gram-Schmidt, twice for orthogonality to the last bit.
std::vector<double> orthonormalise(std::vector<double>& x, std::size_t count, std::size_t n) {
  std::vector<double> r(count * count, 0.0);
  for (std::size_t i = 0; i < count; ++i) {
    double* row = &x[i * n];
    const double before = std::sqrt(dot(row, row, n));
    for (int pass = 0; pass < 2; ++pass)
      for (std::size_t j = 0; j < i; ++j) {
        const double c = dot(&x[j * n], row, n);
        r[j * count + i] += c;
        for (std::size_t k = 0; k < n; ++k) row[k] -= c * x[j * n + k];
      }
    double norm = std::sqrt(dot(row, row, n));
    if (norm <= 1e-13 * before) norm = 0;  // a row that depends on the others
    r[i * count + i] = norm;
    for (std::size_t k = 0; k < n; ++k) row[k] = norm > 0 ? row[k] / norm : 0;
  }
  return r;
}

// One-sided Jacobi on m [n, n], given by columns (m[c] is column c): afterwards its columns are orthogonal,
// and m_before = m · vᵀ, v by columns too.
void jacobi(std::vector<double>& m, std::vector<double>& v, std::size_t n) {
  v.assign(n * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) v[i * n + i] = 1;
  const auto rotate = [n](double* x, double* y, double c, double s) {
    for (std::size_t k = 0; k < n; ++k) {
      const double a = x[k], b = y[k];
      x[k] = c * a - s * b;
      y[k] = s * a + c * b;
    }
  };
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool rotated = false;
    for (std::size_t p = 0; p < n; ++p)
      for (std::size_t q = p + 1; q < n; ++q) {
        const double alpha = dot(&m[p * n], &m[p * n], n), beta = dot(&m[q * n], &m[q * n], n);
        const double gamma = dot(&m[p * n], &m[q * n], n);
        if (std::fabs(gamma) <= 1e-15 * std::sqrt(alpha * beta)) continue;
        rotated = true;
        const double zeta = (beta - alpha) / (2 * gamma);
        const double t = std::copysign(1.0, zeta) / (std::fabs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t);
        rotate(&m[p * n], &m[q * n], c, c * t);
        rotate(&v[p * n], &v[q * n], c, c * t);
      }
    if (!rotated) return;
  }
}

}  // namespace

LoraFactors LoraFactors::of(const LoraModule& m, const ModuleNames& names) {
  if (m.delta.rank == 0 || !m.magnitude.empty() || !m.delta.bias.empty() || m.delta.rows)
    throw Error(ErrorCode::unsupported, names.name(m.id) +
                                            ": only plain LoRA can be mixed and compared; this "
                                            "module has DoRA, a bias or weights stored whole");
  LoraFactors out{m.delta.rank, m.in, m.out, std::vector<float>(m.delta.rank * m.in),
                  std::vector<float>(m.delta.rank * m.out)};
  const std::vector<std::byte> b = lora_unpack_b(m.delta, true);
  simd::dequantize(m.delta.type, b.data(), out.b.data(), out.b.size());
  if (m.id.role != WeightRole::embedding) {
    simd::dequantize(m.delta.type, m.delta.a, out.a.data(), out.a.size());
    return out;
  }
  std::vector<float> by_token(out.a.size());
  simd::dequantize(m.delta.type, m.delta.a, by_token.data(), by_token.size());
  for (std::size_t i = 0; i < m.in; ++i)
    for (std::size_t r = 0; r < out.rank; ++r) out.a[r * m.in + i] = by_token[i * out.rank + r];
  return out;
}

void LowRank::add(const LoraFactors& f, double weight) {
  if (rank_ > 0 && (f.out != out_ || f.in != in_))
    throw Error(ErrorCode::invalid_argument, "expected a module of " + std::to_string(in_) + " inputs and " +
                                                 std::to_string(out_) + " outputs, got " +
                                                 std::to_string(f.in) + " and " + std::to_string(f.out));
  out_ = f.out;
  in_ = f.in;
  rank_ += f.rank;
  for (const float x : f.b) p_.push_back(weight * x);
  q_.insert(q_.end(), f.a.begin(), f.a.end());
}

double LowRank::norm() const {
  double sum = 0;
  for (std::size_t i = 0; i < rank_; ++i)
    for (std::size_t j = 0; j < rank_; ++j)
      sum += dot(&p_[i * out_], &p_[j * out_], out_) * dot(&q_[i * in_], &q_[j * in_], in_);
  return std::sqrt(std::max(sum, 0.0));
}

LoraFactors LowRank::nearest(std::size_t rank) const {
  std::vector<double> p = p_, q = q_;
  const std::vector<double> rp = orthonormalise(p, rank_, out_), rq = orthonormalise(q, rank_, in_);
  // Σᵢ pᵢ qᵢᵀ = P · (Rp · Rqᵀ) · Qᵀ; the core is small.
  std::vector<double> core(rank_ * rank_, 0.0), v;
  for (std::size_t c = 0; c < rank_; ++c)
    for (std::size_t r = 0; r < rank_; ++r)
      for (std::size_t i = 0; i < rank_; ++i) core[c * rank_ + r] += rp[r * rank_ + i] * rq[c * rank_ + i];
  jacobi(core, v, rank_);
  std::vector<std::size_t> order(rank_);
  std::iota(order.begin(), order.end(), 0);
  const auto size = [&](std::size_t c) { return dot(&core[c * rank_], &core[c * rank_], rank_); };
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) { return size(a) > size(b); });
  LoraFactors out{rank, in_, out_, std::vector<float>(rank * in_), std::vector<float>(rank * out_)};
  for (std::size_t r = 0; r < std::min(rank, rank_); ++r) {
    const std::size_t column = order[r];
    const auto combine = [&](const std::vector<double>& basis, const double* factors, std::size_t n,
                             float* to) {
      for (std::size_t k = 0; k < n; ++k) {
        double sum = 0;
        for (std::size_t j = 0; j < rank_; ++j) sum += factors[j] * basis[j * n + k];
        to[k] = static_cast<float>(sum);
      }
    };
    combine(p, &core[column * rank_], out_, &out.b[r * out_]);
    combine(q, &v[column * rank_], in_, &out.a[r * in_]);
  }
  return out;
}

}  // namespace metal_candle
