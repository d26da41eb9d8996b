// What a transformer that turns texts into vectors is, as data: an encoder, or a decoder read as one. A new
// architecture is a function that fills one of these; models/encoder.cpp is the only encoder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/encoder_names.h"
#include "io/gguf.h"
#include "models/decoder_spec.h"

namespace metal_candle {

enum class Activation { gelu, gelu_tanh, silu };

/// Shapes and switches of BERT and its relatives, and of the decoders whose last hidden states are
/// embeddings.
struct EncoderSpec {
  std::string architecture;  ///< "bert", "mpnet", "xlm-roberta", "modernbert", ...

  std::uint32_t layers = 0;
  std::uint32_t hidden = 0;        ///< width of the residual stream
  std::uint32_t intermediate = 0;  ///< width of the MLP
  std::uint32_t heads = 0;         ///< query heads
  std::uint32_t kv_heads = 0;      ///< key/value heads; divides `heads`
  std::uint32_t head_dim = 0;
  std::uint32_t vocab = 0;
  std::uint32_t types = 0;       ///< segment (token type) embeddings; 0: none
  std::uint32_t max_length = 0;  ///< tokens of a sequence
  float norm_eps = 1e-12f;

  /// Absolute positions: row position_offset + i of the table is position i. False: none are added.
  bool absolute_positions = true;
  std::uint32_t position_offset = 0;  ///< 2 in RoBERTa's line, whose padding token has row 1

  /// MPNet: one bias per head and bucket of the distance, the same in every layer; 0: none.
  std::uint32_t relative_buckets = 0;

  bool causal = false;      ///< a token sees those up to itself (decoders)
  bool rms_norm = false;    ///< RMSNorm instead of LayerNorm
  bool head_norms = false;  ///< RMSNorm over head_dim on queries and keys, before the rotation
  bool pre_norm = false;    ///< a block normalises its input (ModernBERT), not its sum with the residual
  bool gated_mlp = false;   ///< down(activation(up(x)) * gate(x)) instead of down(activation(up(x)))
  Activation activation = Activation::gelu;

  /// Per layer: index into inv_freq (rotation), or -1. Empty: no rotation.
  std::vector<int> rope;
  std::vector<std::vector<float>> inv_freq;  ///< [head_dim / 2] each
  /// Per layer: position i sees |i - j| < window; 0: all. Empty: 0 everywhere.
  std::vector<std::uint32_t> window;

  /// Separators between two texts read as one (cross-encoders): RoBERTa's line writes </s></s>.
  std::uint32_t pair_separators = 1;
};

/// From config.json or GGUF metadata. Throws Error(malformed_file | unsupported) naming file and key; the
/// latter for architectures that are no encoder we know.
EncoderSpec encoder_spec_from_json(const Json& json, const std::string& file);
EncoderSpec encoder_spec_from_gguf(const GgufFile& gguf);

/// A decoder without its logits.
EncoderSpec encoder_spec_from_decoder(const DecoderSpec& decoder);

/// What the weights are called in a GGUF file, or in Hugging Face's.
const EncoderNames& encoder_names(const EncoderSpec& spec, bool gguf);

/// Query width, then keys' and values'.
constexpr std::size_t qkv_width(const EncoderSpec& spec) {
  return (std::size_t{spec.heads} + std::size_t{2} * spec.kv_heads) * spec.head_dim;
}

}  // namespace metal_candle
