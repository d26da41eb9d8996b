#include "embeddings/affine.h"

#include <cmath>

#include "kernels/simd/activation.h"
#include "metal_candle/error.h"
#include "models/encoder_loader.h"

namespace metal_candle {
namespace {

void activate(AffineActivation kind, std::vector<float>& x) {
  switch (kind) {
    case AffineActivation::identity: return;
    case AffineActivation::gelu: return simd::gelu(x.data(), x.size(), x.data());
    case AffineActivation::tanh:
      for (float& v : x) v = std::tanh(v);
      return;
    case AffineActivation::relu:
      for (float& v : x) v = v < 0 ? 0 : v;
      return;
    case AffineActivation::sigmoid:
      for (float& v : x) v = 1 / (1 + std::exp(-v));
      return;
  }
}

}  // namespace

Affine::Affine(const WeightStore& store, const std::string& name, std::size_t inputs,
               AffineActivation activation)
    : activation_(activation) {
  const StoredTensor& weight = store.required(name + ".weight");
  const std::size_t n = weight.shape.empty() ? 0 : weight.shape.front();
  const MatrixSource source = stored_matrix(store, name + ".weight", n, inputs);
  std::vector<float> bias;
  if (store.find(name + ".bias")) bias = load_vector(store, name + ".bias", n);
  arena_ = std::make_unique<WeightArena>(DenseLayer::packed_bytes({&source, 1}, Products::f32));
  layer_ = DenseLayer::pack({&source, 1}, std::move(bias), Products::f32, *arena_);
}

std::vector<float> Affine::operator()(const std::vector<float>& x) const {
  std::vector<std::byte> row(simd::product_row_bytes(Products::f32, x.size()));
  const ProductRows rows(Products::f32, x.size(), row.data());
  rows.store(0, 0, x.data(), x.size());
  std::vector<float> out(outputs());
  layer_.store(rows, 1, Team{}, out.data(), out.size());
  activate(activation_, out);
  return out;
}

AffineActivation activation_from_torch(const std::string& name, const std::string& file) {
  const std::string kind = name.substr(name.find_last_of('.') + 1);
  if (kind == "Identity" || kind == "Linear") return AffineActivation::identity;
  if (kind == "Tanh") return AffineActivation::tanh;
  if (kind == "GELU") return AffineActivation::gelu;
  if (kind == "ReLU") return AffineActivation::relu;
  if (kind == "Sigmoid") return AffineActivation::sigmoid;
  throw Error(ErrorCode::unsupported, file + ": activation '" + name +
                                          "' is not supported (Identity, Tanh, GELU, ReLU, Sigmoid are)");
}

}  // namespace metal_candle
