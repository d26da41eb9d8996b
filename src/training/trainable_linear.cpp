#include "training/trainable_linear.h"

#include <algorithm>
#include <cmath>

#include "kernels/compute_pool.h"
#include "kernels/simd/lora.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/train_ops.h"
#include "training/dropout.h"

namespace metal_candle {
namespace {

constexpr std::size_t kRows = 32;  // of one task of an elementwise pass

template <typename F>
void for_rows(std::size_t rows, const F& f) {
  compute_pool().parallel_for(rows, kRows, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) f(i);
  });
}

// Sums over rows go by columns, so that each sum has one order whatever the threads.
template <typename F>
void for_column_blocks(std::size_t columns, const F& f) {
  constexpr std::size_t kColumns = 64;
  compute_pool().parallel_for((columns + kColumns - 1) / kColumns, 1,
                              [&](std::size_t begin, std::size_t end) {
                                for (std::size_t b = begin; b < end; ++b)
                                  f(b * kColumns, std::min(columns, (b + 1) * kColumns));
                              });
}

// Rows of LoRA's thin products that are worked on together. They stay f32: register tiles of 16-bit products
// would be mostly empty.
constexpr std::size_t kThinRows = 24;

template <typename F>
void for_thin_rows(std::size_t rows, const F& f) {
  const std::size_t blocks = (rows + kThinRows - 1) / kThinRows;
  compute_pool().parallel_for(blocks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t b = begin; b < end; ++b) f(b * kThinRows, std::min(rows, (b + 1) * kThinRows));
  });
}

// All rows, now.
void fill(LateRows& x, std::size_t rows, std::size_t width) {
  if (!x.fill) return;
  for_thin_rows(rows,
                [&](std::size_t begin, std::size_t end) { x.fill(begin, end, x.data + begin * width); });
  x.fill = {};
}

// out [rank, n] += tᵀ · y for up to kThinRows rows.
void add_outer(const float* t, std::size_t t_stride, std::size_t rank, const float* y, std::size_t y_stride,
               std::size_t rows, std::size_t n, float* out) {
  thread_local Scratch memory;
  float* transposed = memory.get<float>(rank * rows);
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t r = 0; r < rank; ++r) transposed[r * rows + i] = t[i * t_stride + r];
  simd::lora_expand(DType::f32, reinterpret_cast<const std::byte*>(y), y_stride, rows, transposed, rows, rank,
                    n, out, n);
}

}  // namespace

TrainableLinear::TrainableLinear(WeightRows weight, std::vector<float> bias, std::uint64_t place)
    : weight_(std::move(weight)), bias_(std::move(bias)), place_(place), segments_(weight_.parts()) {
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    segments_[i].begin = weight_.begin(i);
    segments_[i].n = weight_.begin(i + 1) - weight_.begin(i);
  }
}

bool TrainableLinear::trained() const noexcept {
  return std::ranges::any_of(segments_, [](const Segment& s) { return s.lora || s.weight; });
}

void TrainableLinear::set_lora(std::size_t segment, std::unique_ptr<LoraParameters> lora, float dropout) {
  dropout_ = dropout;
  dora_ = dora_ || lora->magnitude;
  segments_[segment].lora = std::move(lora);
  ranks_ = 0;
  for (Segment& s : segments_) {
    s.rank_begin = ranks_;
    if (s.lora) ranks_ += s.lora->rank();
  }
}

void TrainableLinear::set_trained(std::size_t segment, Parameter* weight, Parameter* bias) {
  segments_[segment].weight = weight;
  segments_[segment].bias = bias;
}

void TrainableLinear::refresh() {
  for (Segment& s : segments_) {
    if (s.bias) std::ranges::copy(s.bias->value, bias_.begin() + static_cast<std::ptrdiff_t>(s.begin));
    if (!s.lora || !s.lora->magnitude) continue;
    LoraParameters& l = *s.lora;
    const std::size_t r = l.rank(), k = in_features(), n = out_features();
    // |W + scale B A|² = |W|² + 2 scale B·(A Wᵀ) + scale² B (A Aᵀ) Bᵀ, row by row.
    std::vector<float> aw(r * n), aa(r * r);
    const FloatRows a_rows(l.a.value.data(), k);
    const GemmTerm with_w{{l.a.value.data(), k, 1}, &weight_, true, k, 0, n};
    const GemmTerm with_a{{l.a.value.data(), k, 1}, &a_rows, true, k, 0, r};
    gemm({r, n, {&with_w, 1}, aw.data(), n});
    gemm_serial({r, r, {&with_a, 1}, aa.data(), r});
    l.norm.resize(s.n);
    for (std::size_t j = 0; j < s.n; ++j) {
      double cross = 0, square = 0;
      for (std::size_t p = 0; p < r; ++p) {
        const double b = l.b.value[p * s.n + j];
        cross += b * aw[p * n + s.begin + j];
        for (std::size_t q = 0; q < r; ++q) square += b * aa[p * r + q] * l.b.value[q * s.n + j];
      }
      const double scale = l.scale;
      l.norm[j] = static_cast<float>(
          std::sqrt(std::max(0.0, l.weight_squares[j] + 2 * scale * cross + scale * scale * square)));
    }
  }
}

float* TrainableLinear::dropped(const PassOptions& pass, float* x, std::size_t rows, Scratch& memory) const {
  if (!drops(pass)) return x;
  const std::size_t k = in_features();
  float* out = memory.get<float>(rows * k);
  const std::uint64_t key = mix_bits(pass.random ^ mix_bits(place_));
  for_rows(rows, [&](std::size_t i) { drop(key, i * k, x + i * k, k, dropout_, out + i * k); });
  return out;
}

// h = scale * x · factorᵀ for some rows: columns of `segment`.
void TrainableLinear::shrink(const Segment& segment, const Parameter& factor, const float* x,
                             std::size_t x_stride, std::size_t k, std::size_t rows, float* h) const {
  const std::size_t rank = segment.lora->rank();
  h += segment.rank_begin;
  simd::lora_shrink(DType::f32, reinterpret_cast<const std::byte*>(factor.value.data()), rank, k, x, x_stride,
                    rows, h, ranks_);
  for (std::size_t i = 0; i < rows; ++i, h += ranks_) simd::scale(h, segment.lora->scale, rank);
}

// DoRA reads the weight anew in each step, and would have it in memory twice.
const PackedPanels* TrainableLinear::panels(const PassOptions& pass, bool back) const {
  const simd::GemmKernel& kernel = simd::gemm_half();
  const bool keep = pass.bf16 && pass.keep_panels && kernel.b_element == 2 && !dora_ &&
                    std::ranges::none_of(segments_, &Segment::weight);
  if (!keep) return nullptr;
  PackedPanels& kept = panels_[back];
  if (!kept.serves(kernel)) {
    const std::size_t k = in_features(), n = out_features();
    kept.pack(kernel, weight_, !back, back ? n : k, back ? k : n);
    weight_.rest();
  }
  return &kept;
}

// x Wᵀ + h Bᵀ.
void TrainableLinear::product(const PassOptions& pass, const float* x, std::size_t rows, const float* h,
                              bool accumulate, float* y) const {
  const std::size_t k = in_features(), n = out_features();
  std::vector<GemmTerm> terms{{{x, k, 1}, &weight_, true, k, 0, n, panels(pass, false)}};
  std::vector<FloatRows> b;
  b.reserve(segments_.size());
  for (const Segment& s : segments_) {
    if (!s.lora) continue;
    b.emplace_back(s.lora->b.value.data(), s.n);
    terms.push_back(
        {{h + s.rank_begin, ranks_, 1}, &b.back(), false, s.lora->rank(), s.begin, s.begin + s.n});
  }
  gemm({rows, n, terms, y, n, accumulate, pass.bf16});
}

void TrainableLinear::multiply_gain(float* y, std::size_t rows) const {
  const std::size_t n = out_features();
  std::vector<float> gain(n, 1.0f);
  for (const Segment& s : segments_)
    if (s.lora && s.lora->magnitude)
      for (std::size_t j = 0; j < s.n; ++j) gain[s.begin + j] = s.lora->magnitude->value[j] / s.lora->norm[j];
  for_rows(rows, [&](std::size_t i) { simd::multiply(y + i * n, gain.data(), n); });
}

void TrainableLinear::forward(const PassOptions& pass, const LateRows& late, std::size_t rows,
                              const float* residual, float* y, float* h) const {
  thread_local Scratch memory, product_memory;
  const std::size_t k = in_features(), n = out_features();
  LateRows x = late;
  if (drops(pass) || ranks_ == 0) fill(x, rows, k);
  if (ranks_ > 0) {
    const float* in = dropped(pass, x.data, rows, memory);
    for_thin_rows(rows, [&](std::size_t begin, std::size_t end) {
      if (x.fill) x.fill(begin, end, x.data + begin * k);
      for (const Segment& s : segments_)
        if (s.lora) shrink(s, s.lora->a, in + begin * k, k, k, end - begin, h + begin * ranks_);
    });
  }
  if (dora_) {  // the gain multiplies the product alone
    float* z = product_memory.get<float>(rows * n);
    product(pass, x.data, rows, h, false, z);
    multiply_gain(z, rows);
    add_residual(residual, rows, y);
    for_rows(rows, [&](std::size_t i) { simd::add(y + i * n, z + i * n, n); });
    return;
  }
  const bool start = residual || !bias_.empty();
  if (start) add_residual(residual, rows, y);
  product(pass, x.data, rows, h, start, y);
}

// y = residual + bias.
void TrainableLinear::add_residual(const float* residual, std::size_t rows, float* y) const {
  const std::size_t n = out_features();
  for_rows(rows, [&](std::size_t i) {
    float* to = y + i * n;
    if (residual && residual != y) std::copy_n(residual + i * n, n, to);
    if (!residual) std::fill_n(to, n, 0.0f);
    if (!bias_.empty()) simd::add(to, bias_.data(), n);
  });
}

// dmagnitude, and dy becomes the gradient of the product under the gain. The norm counts as a constant, as in
// the paper (arXiv:2402.09353, 4.3) and in PEFT.
void TrainableLinear::backward_dora(const PassOptions& pass, const float* x, const float* h, std::size_t rows,
                                    float* dy) {
  thread_local Scratch memory;
  const std::size_t n = out_features();
  float* z = memory.get<float>(rows * n);
  product(pass, x, rows, h, false, z);
  for (Segment& s : segments_) {
    if (!s.lora || !s.lora->magnitude) continue;
    LoraParameters& l = *s.lora;
    for_column_blocks(s.n, [&](std::size_t begin, std::size_t end) {
      float sums[64] = {};
      for (std::size_t i = 0; i < rows; ++i)
        simd::add_product(sums, dy + i * n + s.begin + begin, z + i * n + s.begin + begin, end - begin);
      for (std::size_t j = begin; j < end; ++j) l.magnitude->grad[j] += sums[j - begin] / l.norm[j];
    });
  }
  multiply_gain(dy, rows);
}

// dh = scale * dy B, and the gradients of A and B, for which x and dy are read once. Parts of the rows, the
// same for any number of threads, sum by themselves, and their sums are added in order.
void TrainableLinear::backward_lora(const LateRows& x, const float* h, std::size_t rows, const LateRows& dy,
                                    float* dh) {
  constexpr std::size_t kMostParts = 32, kSumBlock = 2048;
  thread_local Scratch memory;
  const std::size_t k = in_features(), n = out_features();
  const std::size_t blocks = std::max((rows + kThinRows - 1) / kThinRows, std::size_t{1});
  const std::size_t part = (blocks + kMostParts - 1) / kMostParts * kThinRows;
  const std::size_t parts = (rows + part - 1) / part;
  std::vector<Parameter*> factors;
  std::size_t width = 0;
  for (Segment& s : segments_) {
    if (!s.lora) continue;
    factors.insert(factors.end(), {&s.lora->b, &s.lora->a});
    width += s.lora->b.size() + s.lora->a.size();
  }
  float* sums = memory.get<float>(parts * width);
  compute_pool().parallel_for(parts, 1, [&](std::size_t first, std::size_t last) {
    thread_local Scratch row_memory;
    float* made = row_memory.get<float>(kThinRows * k);
    std::fill(sums + first * width, sums + last * width, 0.0f);
    for (std::size_t i = first * part; i < std::min(rows, last * part); i += kThinRows) {
      const std::size_t count = std::min(kThinRows, rows - i);
      if (dy.fill) dy.fill(i, i + count, dy.data + i * n);
      if (x.fill) x.fill(i, i + count, made);
      const float* of_x = x.fill ? made : x.data + i * k;
      float* to = sums + i / part * width;
      for (const Segment& s : segments_) {
        if (!s.lora) continue;
        const std::size_t rank = s.lora->rank();
        const float* of_y = dy.data + i * n + s.begin;
        shrink(s, s.lora->b, of_y, n, s.n, count, dh + i * ranks_);
        add_outer(h + i * ranks_ + s.rank_begin, ranks_, rank, of_y, n, count, s.n, to);
        to += rank * s.n;
        add_outer(dh + i * ranks_ + s.rank_begin, ranks_, rank, of_x, k, count, k, to);
        to += rank * k;
      }
    }
  });
  const float* of_factor = sums;
  for (Parameter* factor : factors) {
    compute_pool().parallel_for(factor->size(), kSumBlock, [&](std::size_t begin, std::size_t end) {
      for (std::size_t p = 0; p < parts; ++p)
        simd::add(&factor->grad[begin], of_factor + p * width + begin, end - begin);
    });
    of_factor += factor->size();
  }
}

void TrainableLinear::backward_weights(const PassOptions& pass, const float* x, std::size_t rows,
                                       const float* dy) {
  const std::size_t k = in_features(), n = out_features();
  const FloatRows x_rows(x, k);
  for (Segment& s : segments_) {
    if (s.weight) {
      const GemmTerm term{{dy + s.begin, 1, n}, &x_rows, false, rows, 0, k};
      gemm({s.n, k, {&term, 1}, s.weight->grad.data(), k, true, pass.bf16});
    }
    if (s.bias)
      for_column_blocks(s.n, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = 0; i < rows; ++i)
          simd::add(s.bias->grad.data() + begin, dy + i * n + s.begin + begin, end - begin);
      });
  }
}

void TrainableLinear::backward(const PassOptions& pass, LateRows x, const float* h, std::size_t rows,
                               LateRows dy, float* dx) {
  thread_local Scratch dh_memory, drop_memory, through_memory;
  const std::size_t k = in_features(), n = out_features();
  const bool masked = drops(pass), weights = std::ranges::any_of(segments_, &Segment::weight);
  if (weights || dora_ || masked) fill(x, rows, k);
  if (weights || dora_ || ranks_ == 0) fill(dy, rows, n);
  backward_weights(pass, x.data, rows, dy.data);
  if (dora_) backward_dora(pass, x.data, h, rows, dy.data);
  float* dh = dh_memory.get<float>(rows * ranks_);
  if (masked) x.data = dropped(pass, x.data, rows, drop_memory);
  if (ranks_ > 0) backward_lora(x, h, rows, dy, dh);
  if (!dx) return;
  std::vector<GemmTerm> terms, through;
  terms.push_back({{dy.data, n, 1}, &weight_, false, n, 0, k, panels(pass, true)});
  std::vector<FloatRows> a;
  a.reserve(segments_.size());
  for (const Segment& s : segments_) {
    if (!s.lora) continue;
    a.emplace_back(s.lora->a.value.data(), k);
    (masked ? through : terms)
        .push_back({{dh + s.rank_begin, ranks_, 1}, &a.back(), false, s.lora->rank(), 0, k});
  }
  gemm({rows, k, terms, dx, k, false, pass.bf16});
  if (!masked) return;
  float* d = through_memory.get<float>(rows * k);
  gemm({rows, k, through, d, k, false, pass.bf16});
  const float* kept = dropped(pass, d, rows, drop_memory);  // the mask of x, applied to its gradient
  for_rows(rows, [&](std::size_t i) { simd::add(dx + i * k, kept + i * k, k); });
}

}  // namespace metal_candle
