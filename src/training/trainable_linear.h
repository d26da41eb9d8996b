// A linear layer under training: frozen weights in any stored format or trained ones in f32, with LoRA or
// DoRA beside them; forward and backward. The only place where training applies LoRA.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/packed_panels.h"
#include "kernels/scratch.h"
#include "kernels/weight_rows.h"
#include "training/parameter.h"

namespace metal_candle {

/// What is the same for all layers of one pass.
struct PassOptions {
  bool bf16 = false;         ///< 16-bit products (kernels/simd/gemm.h: gemm_half())
  bool keep_panels = true;   ///< of frozen weights for these: 2 bytes a weight and direction
  bool dropout = false;      ///< of LoRA's input, in training
  std::uint64_t random = 0;  ///< names the pass: the same number draws the same masks
};

/// A matrix of activations or gradients whose rows may be made when they are first wanted, so that they are
/// still in the cache when LoRA's thin products read them.
struct LateRows {
  float* data;  ///< [rows, width]
  /// Writes rows [begin, end) to out [end - begin, width]; on any thread. Empty: they stand in data.
  std::function<void(std::size_t begin, std::size_t end, float* out)> fill = {};
};

/// A and B of one matrix: y += scale * (x Aᵀ) Bᵀ.
struct LoraParameters {
  Parameter a;  ///< [rank, k]
  Parameter b;  ///< Bᵀ: [rank, n]
  float scale = 1;
  std::optional<Parameter> magnitude;  ///< DoRA: [n]
  std::vector<float> weight_squares;   ///< DoRA: |W|² of each row, [n]
  std::vector<float> norm;             ///< DoRA: |W + scale B A| by rows in this step, [n]
  std::size_t rank() const { return static_cast<std::size_t>(a.shape[0]); }
};

/// Matrices [n_i, k] stacked along n. Move-only; one thread drives it, its work runs on the compute pool.
class TrainableLinear {
 public:
  struct Segment {
    std::size_t begin = 0, n = 0;
    Parameter* weight = nullptr;  ///< trained [n, k]; else it is frozen
    Parameter* bias = nullptr;    ///< trained [n]
    std::unique_ptr<LoraParameters> lora;
    std::size_t rank_begin = 0;  ///< of this segment's columns in h
  };

  TrainableLinear() = default;
  /// Frozen; `bias` [n] or empty. `place` tells the dropout masks of layers apart.
  TrainableLinear(WeightRows weight, std::vector<float> bias, std::uint64_t place);

  std::size_t in_features() const noexcept { return weight_.columns(); }
  std::size_t out_features() const noexcept { return weight_.rows(); }
  std::size_t ranks() const noexcept { return ranks_; }  ///< of all segments together: the width of h
  bool trained() const noexcept;
  bool has_dora() const noexcept { return dora_; }
  std::vector<Segment>& segments() noexcept { return segments_; }
  const WeightRows& weight() const noexcept { return weight_; }
  const std::vector<float>& bias() const noexcept { return bias_; }

  /// Adds LoRA (or DoRA, with a magnitude) to a segment. `dropout`: of its input, one value a layer.
  void set_lora(std::size_t segment, std::unique_ptr<LoraParameters> lora, float dropout);
  /// Trains the segment's weight itself; the parameters must outlive the layer. bias may be null.
  void set_trained(std::size_t segment, Parameter* weight, Parameter* bias);

  /// Brings what depends on the parameters up to date: DoRA's norms. Before the first pass and each step's.
  void refresh();

  /// y [rows, n] = x Wᵀ + bias + LoRA, plus `residual` unless null, which may be y. h [rows, ranks()] keeps
  /// scale * x Aᵀ for the backward pass.
  void forward(const PassOptions& pass, const LateRows& x, std::size_t rows, const float* residual, float* y,
               float* h) const;
  /// Adds to the gradients of the parameters and writes dx [rows, k], unless it is null. Overwrites dy if
  /// there is a DoRA; leaves x.data unfilled where nothing needs it whole.
  void backward(const PassOptions& pass, LateRows x, const float* h, std::size_t rows, LateRows dy,
                float* dx);

 private:
  /// The frozen weight packed for y = x Wᵀ or, `back`, for dx = dy W; null where it is not kept.
  const PackedPanels* panels(const PassOptions& pass, bool back) const;
  bool drops(const PassOptions& pass) const { return pass.dropout && dropout_ > 0 && ranks_ > 0; }
  float* dropped(const PassOptions& pass, float* x, std::size_t rows, Scratch& memory) const;
  void product(const PassOptions& pass, const float* x, std::size_t rows, const float* h, bool accumulate,
               float* y) const;
  void multiply_gain(float* y, std::size_t rows) const;
  void add_residual(const float* residual, std::size_t rows, float* y) const;
  void backward_dora(const PassOptions& pass, const float* x, const float* h, std::size_t rows, float* dy);
  void shrink(const Segment& segment, const Parameter& factor, const float* x, std::size_t x_stride,
              std::size_t k, std::size_t rows, float* h) const;
  void backward_lora(const LateRows& x, const float* h, std::size_t rows, const LateRows& dy, float* dh);
  void backward_weights(const PassOptions& pass, const float* x, std::size_t rows, const float* dy);

  WeightRows weight_;
  std::vector<float> bias_;
  std::uint64_t place_ = 0;
  std::vector<Segment> segments_;
  std::size_t ranks_ = 0;
  float dropout_ = 0;
  bool dora_ = false;
  mutable PackedPanels panels_[2];  ///< forward and back, packed when first wanted
};

}  // namespace metal_candle
