#include "training/trainable_layer.h"

#include <algorithm>

#include "kernels/compute_pool.h"
#include "kernels/simd/activation.h"
#include "kernels/simd/attention.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/norm.h"
#include "kernels/simd/rope.h"
#include "kernels/simd/train_ops.h"

namespace metal_candle {
namespace {

constexpr std::size_t kRows = 32;  // of one task; also the blocks in which gradients of norms are summed

template <typename F>
void for_rows(std::size_t rows, const F& f) {
  compute_pool().parallel_for(rows, kRows, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) f(i);
  });
}

// Calls f(row, sum) with a sum [n] per block of rows, which are then added to `total` in order: the same bits
// for any number of threads.
template <typename F>
void sum_rows(std::size_t rows, std::size_t n, std::vector<float>* total, const F& f) {
  if (!total) return for_rows(rows, [&](std::size_t i) { f(i, nullptr); });
  std::vector<float> sums((rows + kRows - 1) / kRows * n);
  for_rows(rows, [&](std::size_t i) { f(i, &sums[i / kRows * n]); });
  for (std::size_t at = 0; at < sums.size(); at += n) simd::add(total->data(), &sums[at], n);
}

std::vector<float>* gradient(Parameter* p) { return p ? &p->grad : nullptr; }

// Memory that passes through all layers use in turn.
struct Temporaries {
  Scratch normed, act, wide, dnormed, dact, dattended, attention;
};

Temporaries& temporaries() {
  thread_local Temporaries memory;
  return memory;
}

// Gates and what they open are kept as they are or as bfloat16.
struct KeptRows {
  float* rows;
  std::size_t width;
  bool half;

  std::uint16_t* half_row(std::size_t i) const { return reinterpret_cast<std::uint16_t*>(rows) + i * width; }
  void put(std::size_t i, const float* row) const {
    if (half) simd::f32_to_bf16(row, width, half_row(i));
  }
  const float* get(std::size_t i, float* out) const {
    if (!half) return rows + i * width;
    simd::bf16_to_f32(half_row(i), width, out);
    return out;
  }
};

}  // namespace

LateRows normed_rows(const TrainableNorm& norm, float eps, const float* x, std::size_t n, float* y) {
  return {y, [&norm, eps, x, n](std::size_t begin, std::size_t end, float* out) {
            for (std::size_t i = begin; i < end; ++i, out += n)
              simd::rms_norm(x + i * n, norm.weight.data(), eps, n, out);
          }};
}

void norm_rows_backward(const TrainableNorm& norm, float eps, const float* x, const float* dy,
                        std::size_t rows, std::size_t n, float* dx) {
  sum_rows(rows, n, gradient(norm.parameter), [&](std::size_t i, float* sum) {
    simd::rms_norm_backward(x + i * n, norm.weight.data(), eps, dy + i * n, n, dx + i * n, sum);
  });
}

bool TrainableLayer::trained() const noexcept {
  return attention_norm.parameter || mlp_norm.parameter || q_norm || k_norm || qkv.trained() ||
         output.trained() || gate_up.trained() || down.trained();
}

void TrainableLayer::refresh() {
  for (TrainableLinear* linear : {&qkv, &output, &gate_up, &down}) linear->refresh();
  for (TrainableNorm* norm : {&attention_norm, &mlp_norm})
    if (norm->parameter) norm->weight = norm->parameter->value;
  if (q_norm) attention.q_norm = q_norm->value;
  if (k_norm) attention.k_norm = k_norm->value;
}

void TrainableLayer::reserve(LayerActivations& a, const PassRows& pass) const {
  const std::size_t rows = pass.rows, gates = gate_up.out_features();
  const std::size_t plain =
      attention.q_norm.empty() ? 0 : (attention.heads + attention.kv_heads) * attention.head_dim;
  struct Part {
    float** to;
    std::size_t width;
  };
  const Part parts[] = {
      {&a.plain, plain},
      {&a.qkv, qkv.out_features()},
      {&a.log_sums, attention.heads},
      {&a.attended, output.in_features()},
      {&a.middle, hidden()},
      {&a.gate_up, pass.options.bf16 ? (gates + 1) / 2 : std::max(gates, qkv.out_features())},
      {&a.h[0], qkv.ranks()},
      {&a.h[1], output.ranks()},
      {&a.h[2], gate_up.ranks()},
      {&a.h[3], down.ranks()}};
  std::size_t width = 0;
  for (const Part& part : parts) width += part.width;
  float* at = a.memory.get<float>(rows * width);
  for (const Part& part : parts) {
    *part.to = at;
    at += rows * part.width;
  }
}

// Head norms and rotation, in place.
void TrainableLayer::rotate(const PassRows& pass, LayerActivations& a) const {
  const std::size_t d = attention.head_dim, heads = attention.heads + attention.kv_heads;
  const std::size_t width = qkv.out_features();
  for_rows(pass.rows, [&](std::size_t i) {
    float* row = a.qkv + i * width;
    if (!attention.q_norm.empty()) std::copy_n(row, heads * d, a.plain + i * heads * d);
    for (std::size_t h = 0; h < heads; ++h) {
      const std::vector<float>& norm = h < attention.heads ? attention.q_norm : attention.k_norm;
      if (!norm.empty()) simd::rms_norm(row + h * d, norm.data(), attention.norm_eps, d, row + h * d);
      simd::rope_neox(row + h * d, d, &pass.cos[i * d / 2], &pass.sin[i * d / 2]);
    }
  });
}

void TrainableLayer::rotate_back(const PassRows& pass, const LayerActivations& a, float* dqkv) {
  const std::size_t d = attention.head_dim, heads = attention.heads + attention.kv_heads;
  const std::size_t width = qkv.out_features();
  const auto turn = [&](std::size_t i, std::size_t h) {
    simd::rope_neox(dqkv + i * width + h * d, d, &pass.cos[i * d / 2], &pass.negative_sin[i * d / 2]);
  };
  if (attention.q_norm.empty())
    return for_rows(pass.rows, [&](std::size_t i) {
      for (std::size_t h = 0; h < heads; ++h) turn(i, h);
    });
  const auto through = [&](std::size_t first, std::size_t count, const std::vector<float>& norm,
                           Parameter* parameter) {
    sum_rows(pass.rows, d, gradient(parameter), [&](std::size_t i, float* sum) {
      float dx[simd::kMaxHeadDim];
      for (std::size_t h = first; h < first + count; ++h) {
        turn(i, h);
        float* dy = dqkv + i * width + h * d;
        std::fill_n(dx, d, 0.0f);
        simd::rms_norm_backward(a.plain + (i * heads + h) * d, norm.data(), attention.norm_eps, dy, d, dx,
                                sum);
        std::copy_n(dx, d, dy);
      }
    });
  };
  through(0, attention.heads, attention.q_norm, q_norm);
  through(attention.heads, attention.kv_heads, attention.k_norm, k_norm);
}

void TrainableLayer::forward(const PassRows& pass, LayerActivations& a, float* out) const {
  Temporaries& memory = temporaries();
  const std::size_t rows = pass.rows, wide = down.in_features();
  float* normed = memory.normed.get<float>(rows * hidden());
  qkv.forward(pass.options, normed_rows(attention_norm, norm_eps, a.input, hidden(), normed), rows, nullptr,
              a.qkv, a.h[0]);
  rotate(pass, a);
  packed_attention(attention, pass.sequences, rows, a.qkv, a.attended, a.log_sums, pass.options.bf16);
  output.forward(pass.options, {a.attended}, rows, a.input, a.middle, a.h[1]);

  const KeptRows kept{a.gate_up, 2 * wide, pass.options.bf16};
  float* gates = kept.half ? memory.wide.get<float>(rows * kept.width) : a.gate_up;
  gate_up.forward(pass.options, normed_rows(mlp_norm, norm_eps, a.middle, hidden(), normed), rows, nullptr,
                  gates, a.h[2]);
  const auto activate = [&](std::size_t begin, std::size_t end, float* act) {
    for (std::size_t i = begin; i < end; ++i, act += wide) {
      const float* gate = gates + i * kept.width;
      simd::swiglu(gate, gate + wide, wide, act);
      kept.put(i, gate);
    }
  };
  down.forward(pass.options, {memory.act.get<float>(rows * wide), activate}, rows, a.middle, out, a.h[3]);
}

void TrainableLayer::backward(const PassRows& pass, LayerActivations& a, float* d, bool last) {
  Temporaries& memory = temporaries();
  const std::size_t rows = pass.rows, wide = down.in_features(), n = hidden();
  const KeptRows kept{a.gate_up, 2 * wide, pass.options.bf16};
  // Gradients take the place of what they are gradients of, and those of q, k and v follow them there.
  float* dwide =
      kept.half ? memory.wide.get<float>(rows * std::max(kept.width, qkv.out_features())) : a.gate_up;
  float* act = memory.act.get<float>(rows * wide);
  float* dact = memory.dact.get<float>(rows * wide);
  float* normed = memory.normed.get<float>(rows * n);
  float* dnormed = memory.dnormed.get<float>(rows * n);
  const auto activate = [&](std::size_t begin, std::size_t end, float* out) {
    thread_local Scratch row;
    for (std::size_t i = begin; i < end; ++i, out += wide) {
      const float* gate = kept.get(i, row.get<float>(kept.width));
      simd::swiglu(gate, gate + wide, wide, out);
    }
  };
  const auto activate_backward = [&](std::size_t begin, std::size_t end, float* out) {
    for (std::size_t i = begin; i < end; ++i, out += kept.width) {
      const float* gate = kept.get(i, out);
      simd::swiglu_backward(gate, gate + wide, dact + i * wide, wide, out, out + wide);
    }
  };
  // DoRA overwrites what it is given, and d is still the residual's.
  const auto given = [&](const TrainableLinear& linear) -> LateRows {
    if (linear.has_dora()) std::copy_n(d, rows * n, dnormed);
    return {linear.has_dora() ? dnormed : d};
  };
  down.backward(pass.options, {act, activate}, a.h[3], rows, given(down), dact);
  gate_up.backward(pass.options, normed_rows(mlp_norm, norm_eps, a.middle, n, normed), a.h[2], rows,
                   {dwide, activate_backward}, dnormed);
  norm_rows_backward(mlp_norm, norm_eps, a.middle, dnormed, rows, n, d);

  float* dattended = memory.dattended.get<float>(rows * output.in_features());
  output.backward(pass.options, {a.attended}, a.h[1], rows, given(output), dattended);
  packed_attention_backward(attention, pass.sequences, rows, a.qkv, a.attended, a.log_sums, dattended, dwide,
                            memory.attention.get<float>(packed_attention_floats(attention, rows)),
                            pass.options.bf16);
  rotate_back(pass, a, dwide);
  const bool stop = last && !attention_norm.parameter;
  qkv.backward(pass.options, normed_rows(attention_norm, norm_eps, a.input, n, normed), a.h[0], rows, {dwide},
               stop ? nullptr : dnormed);
  if (!stop) norm_rows_backward(attention_norm, norm_eps, a.input, dnormed, rows, n, d);
}

}  // namespace metal_candle
