#include "training/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/compute_pool.h"
#include "kernels/simd/train_ops.h"

namespace metal_candle {
namespace {

constexpr std::size_t kGrain = 1 << 15;

// What of a matrix is trained counts as one; vectors keep all squares.
std::size_t trained_rows(const Parameter& p) {
  return p.shape.size() == 2 ? p.trained / static_cast<std::size_t>(p.shape[1]) : 0;
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, std::span<Parameter* const> parameters)
    : config_(config), first_(parameters.size()), second_(parameters.size()) {
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Parameter& p = *parameters[i];
    names_.push_back(p.name);
    if (config.kind == OptimizerConfig::Kind::adafactor) {
      const std::size_t rows = trained_rows(p);
      first_[i].resize(rows > 0 ? rows : p.trained);
      second_[i].resize(rows > 0 ? p.trained / rows : 0);
      continue;
    }
    first_[i].resize(p.trained);
    if (config.kind == OptimizerConfig::Kind::adamw) second_[i].resize(p.trained);
  }
}

std::vector<Optimizer::State> Optimizer::state() {
  std::vector<State> out;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    out.push_back({names_[i] + ".optimizer_0", &first_[i]});
    if (!second_[i].empty()) out.push_back({names_[i] + ".optimizer_1", &second_[i]});
  }
  return out;
}

void Optimizer::step(std::span<Parameter* const> parameters, double rate) {
  ++steps_;
  const auto t = static_cast<double>(steps_);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Parameter& p = *parameters[i];
    const float decay = p.decay ? static_cast<float>(config_.weight_decay) : 0.0f;
    if (config_.kind == OptimizerConfig::Kind::adafactor) {
      adafactor(p, i, rate);
      continue;
    }
    const simd::LionStep lion{static_cast<float>(rate), static_cast<float>(config_.beta1),
                              static_cast<float>(config_.beta2), decay};
    const simd::AdamStep adam{static_cast<float>(rate),
                              static_cast<float>(config_.beta1),
                              static_cast<float>(config_.beta2),
                              static_cast<float>(config_.epsilon),
                              decay,
                              static_cast<float>(1 / (1 - std::pow(config_.beta1, t))),
                              static_cast<float>(1 / (1 - std::pow(config_.beta2, t)))};
    compute_pool().parallel_for(p.trained, kGrain, [&](std::size_t begin, std::size_t end) {
      if (config_.kind == OptimizerConfig::Kind::lion)
        simd::lion(lion, &p.grad[begin], end - begin, &p.value[begin], &first_[i][begin]);
      else
        simd::adamw(adam, &p.grad[begin], end - begin, &p.value[begin], &first_[i][begin],
                    &second_[i][begin]);
    });
  }
}

// arXiv:1804.04235 as torch.optim.Adafactor has it: squares decay by 1 - t^-0.8, updates are clipped to a
// root mean square of 1, and the rate, at most 1/sqrt(t), counts relative to the values' root mean square.
void Optimizer::adafactor(Parameter& p, std::size_t index, double rate) {
  const double keep = std::min(1 - std::pow(static_cast<double>(steps_), -0.8), 1.0);
  std::vector<float>&rows = first_[index], &columns = second_[index];
  const std::size_t width = columns.size(), height = width > 0 ? rows.size() : 0;
  double value_square = 0;
  for (std::size_t i = 0; i < p.trained; ++i) value_square += static_cast<double>(p.value[i]) * p.value[i];
  const auto root_mean_square = [&](double square) {
    return std::sqrt(square / static_cast<double>(p.trained));
  };
  constexpr double kSmallest = 1.1920929e-7;
  const double alpha = std::max(1e-3, root_mean_square(value_square)) *
                       std::min(rate, 1 / std::sqrt(static_cast<double>(steps_)));
  std::vector<double> denominators;
  double row_mean = 0;
  if (height > 0) {
    std::vector<double> column_sums(width, 0.0);
    for (std::size_t r = 0; r < height; ++r) {
      double sum = 0;
      for (std::size_t c = 0; c < width; ++c) {
        const double square = static_cast<double>(p.grad[r * width + c]) * p.grad[r * width + c];
        sum += square;
        column_sums[c] += square;
      }
      rows[r] = static_cast<float>(keep * rows[r] + (1 - keep) * sum / static_cast<double>(width));
      row_mean += rows[r];
    }
    for (std::size_t c = 0; c < width; ++c)
      columns[c] =
          static_cast<float>(keep * columns[c] + (1 - keep) * column_sums[c] / static_cast<double>(height));
    row_mean = std::max(row_mean / static_cast<double>(height), kSmallest);
  } else {
    for (std::size_t i = 0; i < p.trained; ++i)
      rows[i] = static_cast<float>(keep * rows[i] + (1 - keep) * static_cast<double>(p.grad[i]) * p.grad[i]);
  }
  const auto update_of = [&](std::size_t i) {
    const double estimate = height > 0 ? static_cast<double>(rows[i / width]) * columns[i % width] / row_mean
                                       : static_cast<double>(rows[i]);
    return p.grad[i] / std::sqrt(std::max(estimate, kSmallest * kSmallest));
  };
  double square = 0;
  for (std::size_t i = 0; i < p.trained; ++i) square += update_of(i) * update_of(i);
  const double clip = std::max(1.0, root_mean_square(square));
  const double shrink = 1 - rate * (p.decay ? config_.weight_decay : 0);
  for (std::size_t i = 0; i < p.trained; ++i)
    p.value[i] = static_cast<float>(p.value[i] * shrink - alpha / clip * update_of(i));
}

double gradient_norm(std::span<Parameter* const> parameters) {
  double sum = 0;
  for (const Parameter* p : parameters)
    for (std::size_t i = 0; i < p->trained; i += 4096) {
      const std::size_t n = std::min<std::size_t>(4096, p->trained - i);
      sum += simd::dot(&p->grad[i], &p->grad[i], n);
    }
  return std::sqrt(sum);
}

void scale_gradients(std::span<Parameter* const> parameters, float factor) {
  for (Parameter* p : parameters) simd::scale(p->grad.data(), factor, p->trained);
}

void zero_gradients(std::span<Parameter* const> parameters) {
  for (Parameter* p : parameters) std::ranges::fill(p->grad, 0.0f);
}

}  // namespace metal_candle
