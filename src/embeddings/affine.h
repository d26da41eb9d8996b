// A small f32 layer on one vector: sentence-transformers' Dense modules and the heads of cross-encoders.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "io/weight_store.h"
#include "kernels/dense_layer.h"

namespace metal_candle {

enum class AffineActivation { identity, tanh, gelu, relu, sigmoid };

/// y = activation(W x + b). Immutable; const calls are thread-safe.
class Affine {
 public:
  /// `name`.weight [n, k] and, if there is one, `name`.bias [n]; k must be `inputs`.
  /// Throws Error(malformed_file) naming file and tensor.
  Affine(const WeightStore& store, const std::string& name, std::size_t inputs, AffineActivation activation);

  std::size_t outputs() const noexcept { return layer_.out_features(); }
  std::vector<float> operator()(const std::vector<float>& x) const;

 private:
  std::unique_ptr<WeightArena> arena_;
  DenseLayer layer_;
  AffineActivation activation_;
};

/// From a torch class name such as "torch.nn.modules.activation.Tanh". Throws Error(unsupported) naming
/// `file`.
AffineActivation activation_from_torch(const std::string& name, const std::string& file);

}  // namespace metal_candle
