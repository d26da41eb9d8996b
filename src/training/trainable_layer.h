// One layer of the decoder under training: its forward pass on whole packed sequences, keeping what the
// backward pass needs. Inference's layer is nn/decoder_layer.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/packed_attention.h"
#include "training/trainable_linear.h"

namespace metal_candle {

/// The rows of one pass, shared by all layers.
struct PassRows {
  PassOptions options;
  std::size_t rows = 0;
  std::vector<PackedSequence> sequences;  ///< cover the rows in order
  std::vector<float> cos, sin;            ///< [rows, head_dim / 2], by the position within the sequence
  std::vector<float> negative_sin;        ///< turns back
};

/// The weight of an RMSNorm, [n], and its parameter where it is trained.
struct TrainableNorm {
  std::vector<float> weight;
  Parameter* parameter = nullptr;
};

/// What the forward pass keeps of a layer, and the backward pass uses up.
struct LayerActivations {
  Scratch memory;
  float* input;     ///< [rows, hidden], the caller's
  float* plain;     ///< with norms on heads: queries and keys before them [rows, (heads + kv) * d]
  float* qkv;       ///< rotated, [rows, (heads + 2 kv) * d]
  float* log_sums;  ///< [heads, rows]
  float* attended;  ///< [rows, heads * d]
  float* middle;    ///< [rows, hidden], after attention
  float* gate_up;   ///< [rows, 2 * intermediate], in bfloat16 where products are of 16 bits
  float* h[4];      ///< LoRA's x Aᵀ of qkv, output, gate_up and down
};

/// Move-only; one thread drives it, its work runs on the compute pool.
class TrainableLayer {
 public:
  AttentionSpec attention;  ///< its q_norm and k_norm are used here
  float norm_eps = 1e-5f;
  TrainableNorm attention_norm, mlp_norm;
  Parameter *q_norm = nullptr, *k_norm = nullptr;  ///< where they are trained
  TrainableLinear qkv, output, gate_up, down;

  bool trained() const noexcept;
  /// DoRA's norms and the values of trained norms. Before the first pass and after each step.
  void refresh();

  /// Lays out all of `a` but its input.
  void reserve(LayerActivations& a, const PassRows& pass) const;
  /// From a.input to out [rows, hidden], which may be a.input, filling a.
  void forward(const PassRows& pass, LayerActivations& a, float* out) const;
  /// Turns d [rows, hidden], the gradient of the result, into that of a.input (unless `last`: nothing below
  /// wants it), and adds to the parameters' gradients.
  void backward(const PassRows& pass, LayerActivations& a, float* d, bool last);

 private:
  void rotate(const PassRows& pass, LayerActivations& a) const;
  void rotate_back(const PassRows& pass, const LayerActivations& a, float* dqkv);
  std::size_t hidden() const { return down.out_features(); }
};

/// Row by row rms_norm(x), made in y.
LateRows normed_rows(const TrainableNorm& norm, float eps, const float* x, std::size_t n, float* y);
/// dx += its gradient; the parameter's gradient too, where there is one.
void norm_rows_backward(const TrainableNorm& norm, float eps, const float* x, const float* dy,
                        std::size_t rows, std::size_t n, float* dx);

}  // namespace metal_candle
