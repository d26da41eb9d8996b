// From an open weight store to an encoder: checks every shape and repacks each weight once. The embedding
// tables stay in the mapped file.
#pragma once

#include <memory>
#include <vector>

#include "models/encoder.h"

namespace metal_candle {

/// Throws Error(malformed_file) naming file and tensor for a missing or misshapen weight, Error(unsupported)
/// for an element type that has no float meaning or shapes that `products` cannot take.
std::unique_ptr<Encoder> load_encoder(std::shared_ptr<const WeightStore> store, const EncoderSpec& spec,
                                      Products products);

/// A stored [n] vector as f32. Throws Error(malformed_file) naming file and tensor.
std::vector<float> load_vector(const WeightStore& store, const std::string& name, std::size_t n);
/// A stored [n, k] matrix where it lies. Throws likewise.
MatrixSource stored_matrix(const WeightStore& store, const std::string& name, std::size_t n, std::size_t k);

}  // namespace metal_candle
