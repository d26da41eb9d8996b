// A transformer over a ragged batch: token ids in, one hidden state a token out. Text, pooling
// and batching are the business of embeddings/.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "adapters/bound_adapter.h"
#include "io/weight_store.h"
#include "kernels/dense_layer.h"
#include "kernels/scratch.h"
#include "kernels/sequence_attention.h"
#include "kernels/team.h"
#include "kernels/weight_arena.h"
#include "metal_candle/tokenizer.h"
#include "models/encoder_spec.h"

namespace metal_candle {

/// Sequences one after another, no padding: sequence s is [begin[s], begin[s + 1]), not empty, at most
/// spec().max_length long.
struct RaggedBatch {
  std::vector<TokenId> tokens;
  std::vector<std::uint8_t> types;  ///< segment of each token; empty: 0 everywhere
  std::vector<std::size_t> begin{0};

  std::size_t sequences() const { return begin.size() - 1; }
  std::size_t length(std::size_t s) const { return begin[s + 1] - begin[s]; }
  std::size_t longest() const;
};

/// A LayerNorm or, as the spec says, an RMSNorm; no weight: the identity.
struct LayerNorm {
  std::vector<float> weight, bias;  ///< [hidden]; the bias may be missing
};

/// A stored table that is read row by row where it lies.
struct EmbeddingTable {
  const StoredTensor* tensor = nullptr;  ///< [rows, hidden], null: none
  void read(std::size_t row, std::size_t hidden, float* out) const;
};

struct EncoderLayer {
  LayerNorm attention_pre_norm;       ///< of the input of attention
  DenseLayer qkv;                     ///< [(heads + 2 * kv_heads) * head_dim, hidden]
  std::vector<float> q_norm, k_norm;  ///< [head_dim], or empty
  SequenceAttention attention;
  DenseLayer output;         ///< [hidden, heads * head_dim]
  LayerNorm attention_norm;  ///< of the sum
  LayerNorm mlp_pre_norm;
  DenseLayer up;    ///< [intermediate, hidden]
  DenseLayer gate;  ///< the same, if the spec is gated
  DenseLayer down;  ///< [hidden, intermediate]
  LayerNorm mlp_norm;
};

struct EncoderWeights {
  std::shared_ptr<const WeightStore> store;  ///< the embedding tables lie in it
  std::unique_ptr<WeightArena> arena;
  Products products = Products::f32;
  EmbeddingTable words, positions, types;
  LayerNorm embedding_norm;
  std::vector<float> relative_bias;  ///< [heads][2 * max_length - 1]
  std::vector<EncoderLayer> layers;
};

class Encoder;

/// What a mix of adapters adds to each layer of batches of up to `tokens`. Immutable; views the mix.
class EncoderAdapters {
 public:
  EncoderAdapters(const AdapterMix& mix, std::size_t layers, std::size_t tokens);
  /// Null: nothing.
  const LoraCall* at(std::size_t place) const {
    return calls_[place].parts.empty() ? nullptr : &calls_[place];
  }
  /// Working memory that the largest of the calls takes.
  std::size_t floats() const noexcept { return floats_; }

 private:
  std::vector<LoraCall> calls_;  ///< by place
  std::size_t floats_ = 0;
};

/// Working memory of one team; grow-only. Not shared by teams.
class EncoderBuffers {
 public:
  /// Room for batches of `tokens` with sequences up to `longest`, walked by up to `threads`; adapters may be
  /// null.
  void reserve(const Encoder& encoder, std::size_t tokens, std::size_t longest, unsigned threads,
               const EncoderAdapters* adapters);
  /// After forward(): [tokens, hidden].
  const float* hidden() const { return hidden_; }

 private:
  friend class Encoder;
  Scratch memory_;
  float *hidden_ = nullptr, *qkv_ = nullptr, *attended_ = nullptr, *gate_ = nullptr, *row_ = nullptr;
  std::byte *x_ = nullptr, *activated_ = nullptr, *heads_ = nullptr;
  std::size_t head_bytes_ = 0;
  // With adapters, which multiply f32: what x_ and activated_ hold, and their own memory.
  float *exact_x_ = nullptr, *exact_activated_ = nullptr, *lora_ = nullptr;
};

/// Immutable but for the table of rotations; const calls from several teams may run at once.
class Encoder {
 public:
  Encoder(EncoderSpec spec, EncoderWeights weights);

  const EncoderSpec& spec() const noexcept { return spec_; }
  Products products() const noexcept { return weights_.products; }
  /// A row of the weight that adapters know by this name, as it is multiplied.
  void read_row(WeightId id, std::size_t row, float* out) const;

  /// What a thread needs for the attention of sequences of up to `longest`.
  std::size_t attention_bytes(std::size_t longest) const;
  /// Makes rotations ready for sequences of `longest`. Not while forward() runs.
  void reserve_positions(std::size_t longest);

  /// Every member of the team calls it inside one parallel region; returns when all are done. Tokens must lie
  /// in the vocabulary, types below spec().types; adapters may be null, else the buffers were reserved for
  /// them. Does not throw.
  void forward(const RaggedBatch& batch, EncoderBuffers& buffers, const Team& team,
               const EncoderAdapters* adapters = nullptr) const;

 private:
  class Pass;
  EncoderSpec spec_;
  EncoderWeights weights_;
  std::vector<std::unique_ptr<RopeTable>> rope_;  ///< one for each of spec().inv_freq; layers point at them
};

}  // namespace metal_candle
