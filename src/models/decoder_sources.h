// The weights of a decoder as its checkpoint stores them: which matrices stand side by side, each with its
// shape checked against the spec. Shared by the loader, which repacks them, and by training, which does not.
#pragma once

#include <string>
#include <vector>

#include "io/weight_names.h"
#include "io/weight_store.h"
#include "kernels/attention.h"
#include "kernels/packed_linear.h"
#include "models/decoder_spec.h"

namespace metal_candle {

/// One matrix of a layer: its role and the shape [n, k] that the spec demands.
struct DecoderMatrix {
  WeightRole role;
  std::size_t n;
  std::size_t k;
  std::size_t rotary_heads = 0;  ///< rows come in so many heads that are rotated (q and k); 0: none
};

/// Which matrices stand side by side in a layer. A view of the spec.
class DecoderShapes {
 public:
  using Matrices = std::vector<DecoderMatrix>;

  explicit DecoderShapes(const DecoderSpec& spec) : spec_(spec) {}
  Matrices qkv() const;
  Matrices output() const;
  Matrices gate_up() const;
  Matrices down() const;
  Matrices embedding() const { return {{WeightRole::embedding, spec_.vocab, spec_.hidden}}; }
  Matrices head() const { return {{WeightRole::lm_head, spec_.vocab, spec_.hidden}}; }
  /// Without the weights of its norms.
  AttentionSpec attention(std::uint32_t layer) const;

 protected:
  const DecoderSpec& spec_;
};

/// A view: store and spec must outlive it. Every call throws Error(malformed_file) naming file and tensor for
/// a missing or misshapen weight, Error(unsupported) for an element type without a kernel.
class DecoderSources : public DecoderShapes {
 public:
  DecoderSources(const WeightStore& store, const DecoderSpec& spec)
      : DecoderShapes(spec),
        store_(store),
        scheme_(store.gguf() ? NameScheme::gguf : NameScheme::hugging_face) {}

  /// The embedding is the output layer too.
  bool shares_embedding() const;

  MatrixSource source(const DecoderMatrix& m, std::uint32_t layer) const;
  std::vector<MatrixSource> sources(const Matrices& matrices, std::uint32_t layer) const;
  /// Stacked biases, [sum of n]; empty if there are none. They are used wherever the file has them; missing
  /// ones are an error only where the architecture has one.
  std::vector<float> bias(const Matrices& matrices, std::uint32_t layer) const;
  /// The weight of a norm, [n].
  std::vector<float> norm(WeightRole role, std::uint32_t layer, std::size_t n) const;
  AttentionSpec attention(std::uint32_t layer) const;

  /// The pages of these matrices go back to the system.
  void release(const Matrices& matrices, std::uint32_t layer) const;

  const WeightStore& store() const noexcept { return store_; }

 private:
  bool expects_bias(WeightRole role) const;
  MatrixSource affine_source(const DecoderMatrix& m, const std::string& base) const;
  [[noreturn]] void unsupported_affine(const std::string& tensor, std::uint64_t bits,
                                       std::uint64_t group) const;
  std::function<std::size_t(std::size_t)> row_map(const DecoderMatrix& m) const;
  const StoredTensor& tensor(const std::string& wanted) const;
  const StoredTensor& tensor(const std::string& wanted, const std::vector<std::uint64_t>& shape) const;
  std::vector<float> vector(const std::string& wanted, std::size_t n) const;
  std::string name(WeightRole role, std::uint32_t layer) const { return weight_name(scheme_, role, layer); }
  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const;

  const WeightStore& store_;
  const NameScheme scheme_;
};

}  // namespace metal_candle
