// What each weight of an encoder is called in a checkpoint and in an adapter. With weight_names.h, the only
// places that know.
#pragma once

#include <span>
#include <string>

#include "io/weight_store.h"

namespace metal_candle {

/// Names without ".weight" and ".bias"; an empty one does not exist in the architecture. Those of a layer
/// follow `layer`, in which {} stands for its number.
struct EncoderNames {
  const char* words = "";
  const char* positions = "";
  const char* types = "";
  const char* embedding_norm = "";
  const char* relative_bias = "";
  const char* final_norm = "";
  const char* layer = "";
  const char *q = "", *k = "", *v = "";
  const char *q_norm = "", *k_norm = "";
  const char* qkv = "";  ///< one matrix; where a file has it, q, k and v are not asked for
  const char* output = "";
  const char *attention_pre_norm = "", *attention_norm = "";
  const char* up = "";
  const char *activated = "", *gate = "";  ///< of a gated MLP: down(activation(activated) * gate)
  const char* activated_gate = "";         ///< one matrix, the first over the second
  const char* down = "";
  const char *mlp_pre_norm = "", *mlp_norm = "";
  const char* pooler = "";  ///< of the model's; sentence vectors do not pass through it

  std::string of_layer(std::size_t index, const char* name) const;
};

extern const EncoderNames kBertNames, kMpnetNames, kModernbertNames, kNomicNames;
extern const EncoderNames kDecoderNames;  ///< of a decoder without its output layer
extern const EncoderNames kGgufEncoderNames, kGgufDecoderNames;

/// What may stand before every name of an encoder: "" or, where a task's head was saved beside it, the
/// encoder's own name ("bert.", "roberta.", "model.", ...).
std::span<const char* const> encoder_prefixes() noexcept;
/// The one that does in this file.
std::string encoder_prefix(const WeightStore& store, const EncoderNames& names);

}  // namespace metal_candle
