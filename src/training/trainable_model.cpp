#include "training/trainable_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/compute_pool.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/rope.h"
#include "kernels/simd/softmax.h"
#include "kernels/simd/train_ops.h"

namespace metal_candle {
namespace {

constexpr std::size_t kLogitFloats = std::size_t{12} << 20;  // logits that exist at a time
constexpr std::size_t kLeastLogitRows = 64;

PassRows pass_rows(const TrainingBatch& batch, const PassOptions& options,
                   const std::vector<float>& inv_freq) {
  PassRows pass;
  pass.options = options;
  pass.rows = batch.tokens.size();
  pass.sequences = batch.sequences;
  const std::size_t half = inv_freq.size();
  pass.cos.resize(pass.rows * half);
  pass.sin.resize(pass.rows * half);
  for (const PackedSequence& s : batch.sequences)
    for (std::size_t i = s.begin; i < s.end; ++i)
      simd::rope_table(static_cast<std::int64_t>(i - s.begin), inv_freq.data(), half, 1, &pass.cos[i * half],
                       &pass.sin[i * half]);
  pass.negative_sin = pass.sin;
  for (float& x : pass.negative_sin) x = -x;
  return pass;
}

// The loss of one row of logits, which become their gradient if factor is not null.
double row_loss(float* logits, std::size_t n, std::int32_t target, float smoothing, float weight,
                const float* factor) {
  const float log_sum = simd::log_sum_exp(logits, n), of_target = logits[target];
  double loss = (1 - smoothing) * (static_cast<double>(log_sum) - of_target);
  if (smoothing > 0)
    loss += smoothing * (static_cast<double>(log_sum) - simd::sum_of(logits, n) / static_cast<double>(n));
  if (factor) {
    const float scale = *factor * weight;
    simd::exp_scaled(logits, n, 1, log_sum, scale, logits);
    if (smoothing > 0)
      for (std::size_t j = 0; j < n; ++j) logits[j] -= scale * smoothing / static_cast<float>(n);
    logits[target] -= scale * (1 - smoothing);
  }
  return loss * weight;
}

}  // namespace

std::vector<Parameter*> TrainableModel::trained() {
  std::vector<Parameter*> out;
  for (Parameter& p : parameters) out.push_back(&p);
  const auto add = [&](TrainableLinear& linear) {
    for (TrainableLinear::Segment& s : linear.segments()) {
      if (!s.lora) continue;
      out.push_back(&s.lora->a);
      out.push_back(&s.lora->b);
      if (s.lora->magnitude) out.push_back(&*s.lora->magnitude);
    }
  };
  for (TrainableLayer& layer : layers)
    for (TrainableLinear* linear : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down}) add(*linear);
  add(head);
  return out;
}

std::uint64_t TrainableModel::multiplied_weights() const {
  const auto size = [](const TrainableLinear& linear) {
    return std::uint64_t{linear.in_features()} * linear.out_features();
  };
  std::uint64_t sum = size(head);
  for (const TrainableLayer& layer : layers)
    for (const TrainableLinear* linear : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down})
      sum += size(*linear);
  return sum;
}

void TrainableModel::refresh() {
  for (TrainableLayer& layer : layers) layer.refresh();
  head.refresh();
  if (final_norm.parameter) final_norm.weight = final_norm.parameter->value;
}

void TrainableModel::embed(std::span<const std::int32_t> tokens, float* out) const {
  const std::size_t n = spec.hidden;
  compute_pool().parallel_for(tokens.size(), 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const float* row = embedding.weight().row(static_cast<std::size_t>(tokens[i]), 0, n, out + i * n);
      if (row != out + i * n) std::copy_n(row, n, out + i * n);
    }
  });
}

void TrainableModel::embed_backward(std::span<const std::int32_t> tokens, const float* d) {
  Parameter* table = embedding.segments().front().weight;
  if (!table) return;
  const std::size_t n = spec.hidden;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    simd::add(table->grad.data() + static_cast<std::size_t>(tokens[i]) * n, d + i * n, n);
}

// Rows with a weight, in chunks: the logits of all of them never exist.
BatchLoss TrainableModel::head_loss(const TrainingBatch& batch, const LossOptions& options,
                                    const float* hidden, const float* factor, float* d) {
  thread_local Scratch in_memory, normed_memory, logit_memory, d_memory, h_memory, din_memory;
  const std::size_t n = spec.hidden, vocab = spec.vocab;
  std::vector<std::size_t> rows;
  for (std::size_t i = 0; i < batch.tokens.size(); ++i)
    if (batch.weights[i] != 0) rows.push_back(i);
  const std::size_t chunk = std::min(
      rows.size(), std::max(kLogitFloats / vocab / kLeastLogitRows * kLeastLogitRows, kLeastLogitRows));
  BatchLoss total;
  std::vector<double> losses(chunk);
  for (std::size_t begin = 0; begin < rows.size(); begin += chunk) {
    const std::size_t count = std::min(chunk, rows.size() - begin);
    float* in = in_memory.get<float>(chunk * n);
    float* normed = normed_memory.get<float>(chunk * n);
    float* logits = logit_memory.get<float>(chunk * vocab);
    float* h = h_memory.get<float>(chunk * head.ranks());
    for (std::size_t i = 0; i < count; ++i) std::copy_n(hidden + rows[begin + i] * n, n, in + i * n);
    head.forward(options.pass, normed_rows(final_norm, spec.norm_eps, in, n, normed), count, nullptr, logits,
                 h);
    compute_pool().parallel_for(count, 1, [&](std::size_t first, std::size_t last) {
      for (std::size_t i = first; i < last; ++i) {
        const std::size_t row = rows[begin + i];
        losses[i] = row_loss(logits + i * vocab, vocab, batch.targets[row], options.label_smoothing,
                             batch.weights[row], factor);
      }
    });
    for (std::size_t i = 0; i < count; ++i) {
      total.sum += losses[i];
      total.weight += batch.weights[rows[begin + i]];
    }
    if (!factor) continue;
    float* dnormed = d_memory.get<float>(chunk * n);
    float* din = din_memory.get<float>(chunk * n);
    head.backward(options.pass, {normed}, h, count, {logits}, dnormed);
    std::fill_n(din, count * n, 0.0f);
    norm_rows_backward(final_norm, spec.norm_eps, in, dnormed, count, n, din);
    for (std::size_t i = 0; i < count; ++i) std::copy_n(din + i * n, n, d + rows[begin + i] * n);
  }
  return total;
}

BatchLoss TrainableModel::run(const TrainingBatch& batch, const LossOptions& options, const float* factor) {
  const PassRows pass = pass_rows(batch, options.pass, spec.inv_freq);
  const std::size_t rows = pass.rows, n = spec.hidden;
  // A pass without a gradient keeps nothing; with checkpoints, one keeps the inputs of layers.
  const bool keep = factor && !options.checkpoint;
  activations_.resize(keep ? layers.size() : 1);
  float* inputs = inputs_.get<float>((factor ? layers.size() + 1 : 1) * rows * n);
  const auto input = [&](std::size_t layer) { return inputs + (factor ? layer : 0) * rows * n; };
  const auto forward = [&](std::size_t i) {
    LayerActivations& a = activations_[keep ? i : 0];
    layers[i].reserve(a, pass);
    a.input = input(i);
    layers[i].forward(pass, a, input(i + 1));
  };
  embed(batch.tokens, input(0));
  for (std::size_t i = 0; i < layers.size(); ++i) forward(i);
  float* d = factor ? gradient_.get<float>(rows * n) : nullptr;
  if (d) std::fill_n(d, rows * n, 0.0f);
  const BatchLoss total = head_loss(batch, options, input(layers.size()), factor, d);
  if (!factor) return total;
  const bool to_table = embedding.trained();
  std::size_t lowest = 0;
  while (!to_table && lowest < layers.size() && !layers[lowest].trained()) ++lowest;
  for (std::size_t i = layers.size(); i-- > lowest;) {
    if (!keep) forward(i);
    layers[i].backward(pass, activations_[keep ? i : 0], d, i == lowest && !to_table);
  }
  if (to_table) embed_backward(batch.tokens, d);
  return total;
}

BatchLoss TrainableModel::loss(const TrainingBatch& batch, const LossOptions& options) {
  return run(batch, options, nullptr);
}

BatchLoss TrainableModel::loss_and_gradient(const TrainingBatch& batch, const LossOptions& options,
                                            float factor) {
  return run(batch, options, &factor);
}

}  // namespace metal_candle
