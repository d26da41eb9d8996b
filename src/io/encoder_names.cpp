#include "io/encoder_names.h"

#include <array>

namespace metal_candle {
namespace {

constexpr std::array<const char*, 6> kPrefixes{"", "bert.", "roberta.", "mpnet.", "model.", "encoder."};

}  // namespace

const EncoderNames kBertNames{.words = "embeddings.word_embeddings",
                              .positions = "embeddings.position_embeddings",
                              .types = "embeddings.token_type_embeddings",
                              .embedding_norm = "embeddings.LayerNorm",
                              .layer = "encoder.layer.{}.",
                              .q = "attention.self.query",
                              .k = "attention.self.key",
                              .v = "attention.self.value",
                              .output = "attention.output.dense",
                              .attention_norm = "attention.output.LayerNorm",
                              .up = "intermediate.dense",
                              .down = "output.dense",
                              .mlp_norm = "output.LayerNorm",
                              .pooler = "pooler.dense"};

const EncoderNames kMpnetNames{.words = "embeddings.word_embeddings",
                               .positions = "embeddings.position_embeddings",
                               .embedding_norm = "embeddings.LayerNorm",
                               .relative_bias = "encoder.relative_attention_bias",
                               .layer = "encoder.layer.{}.",
                               .q = "attention.attn.q",
                               .k = "attention.attn.k",
                               .v = "attention.attn.v",
                               .output = "attention.attn.o",
                               .attention_norm = "attention.LayerNorm",
                               .up = "intermediate.dense",
                               .down = "output.dense",
                               .mlp_norm = "output.LayerNorm",
                               .pooler = "pooler.dense"};

const EncoderNames kModernbertNames{.words = "embeddings.tok_embeddings",
                                    .embedding_norm = "embeddings.norm",
                                    .final_norm = "final_norm",
                                    .layer = "layers.{}.",
                                    .qkv = "attn.Wqkv",
                                    .output = "attn.Wo",
                                    .attention_pre_norm = "attn_norm",
                                    .activated_gate = "mlp.Wi",
                                    .down = "mlp.Wo",
                                    .mlp_pre_norm = "mlp_norm"};

const EncoderNames kNomicNames{.words = "embeddings.word_embeddings",
                               .types = "embeddings.token_type_embeddings",
                               .embedding_norm = "emb_ln",
                               .layer = "encoder.layers.{}.",
                               .qkv = "attn.Wqkv",
                               .output = "attn.out_proj",
                               .attention_norm = "norm1",
                               .activated = "mlp.fc12",
                               .gate = "mlp.fc11",
                               .down = "mlp.fc2",
                               .mlp_norm = "norm2"};

const EncoderNames kGgufEncoderNames{.words = "token_embd",
                                     .positions = "position_embd",
                                     .types = "token_types",
                                     .embedding_norm = "token_embd_norm",
                                     .layer = "blk.{}.",
                                     .q = "attn_q",
                                     .k = "attn_k",
                                     .v = "attn_v",
                                     .qkv = "attn_qkv",
                                     .output = "attn_output",
                                     .attention_norm = "attn_output_norm",
                                     .up = "ffn_up",
                                     .activated = "ffn_gate",
                                     .gate = "ffn_up",
                                     .down = "ffn_down",
                                     .mlp_norm = "layer_output_norm"};

const EncoderNames kDecoderNames{.words = "embed_tokens",
                                 .final_norm = "norm",
                                 .layer = "layers.{}.",
                                 .q = "self_attn.q_proj",
                                 .k = "self_attn.k_proj",
                                 .v = "self_attn.v_proj",
                                 .q_norm = "self_attn.q_norm",
                                 .k_norm = "self_attn.k_norm",
                                 .output = "self_attn.o_proj",
                                 .attention_pre_norm = "input_layernorm",
                                 .activated = "mlp.gate_proj",
                                 .gate = "mlp.up_proj",
                                 .down = "mlp.down_proj",
                                 .mlp_pre_norm = "post_attention_layernorm"};

const EncoderNames kGgufDecoderNames{.words = "token_embd",
                                     .final_norm = "output_norm",
                                     .layer = "blk.{}.",
                                     .q = "attn_q",
                                     .k = "attn_k",
                                     .v = "attn_v",
                                     .q_norm = "attn_q_norm",
                                     .k_norm = "attn_k_norm",
                                     .output = "attn_output",
                                     .attention_pre_norm = "attn_norm",
                                     .activated = "ffn_gate",
                                     .gate = "ffn_up",
                                     .down = "ffn_down",
                                     .mlp_pre_norm = "ffn_norm"};

std::string EncoderNames::of_layer(std::size_t index, const char* name) const {
  std::string out = layer;
  out.replace(out.find("{}"), 2, std::to_string(index));
  return out + name;
}

std::span<const char* const> encoder_prefixes() noexcept { return kPrefixes; }

std::string encoder_prefix(const WeightStore& store, const EncoderNames& names) {
  for (const char* prefix : kPrefixes)
    if (store.find(std::string(prefix) + names.words + ".weight")) return prefix;
  return "";
}

}  // namespace metal_candle
