#include "models/encoder_names.h"

#include <array>

namespace metal_candle {
namespace {

constexpr EncoderNames bert_names() {
  EncoderNames n;
  n.words = "embeddings.word_embeddings";
  n.positions = "embeddings.position_embeddings";
  n.types = "embeddings.token_type_embeddings";
  n.embedding_norm = "embeddings.LayerNorm";
  n.layer = "encoder.layer.{}.";
  n.q = "attention.self.query";
  n.k = "attention.self.key";
  n.v = "attention.self.value";
  n.output = "attention.output.dense";
  n.attention_norm = "attention.output.LayerNorm";
  n.up = "intermediate.dense";
  n.down = "output.dense";
  n.mlp_norm = "output.LayerNorm";
  return n;
}

constexpr EncoderNames mpnet_names() {
  EncoderNames n = bert_names();
  n.types = "";
  n.relative_bias = "encoder.relative_attention_bias";
  n.q = "attention.attn.q";
  n.k = "attention.attn.k";
  n.v = "attention.attn.v";
  n.output = "attention.attn.o";
  n.attention_norm = "attention.LayerNorm";
  return n;
}

constexpr EncoderNames modernbert_names() {
  EncoderNames n;
  n.words = "embeddings.tok_embeddings";
  n.embedding_norm = "embeddings.norm";
  n.final_norm = "final_norm";
  n.layer = "layers.{}.";
  n.qkv = "attn.Wqkv";
  n.output = "attn.Wo";
  n.attention_pre_norm = "attn_norm";
  n.activated_gate = "mlp.Wi";
  n.down = "mlp.Wo";
  n.mlp_pre_norm = "mlp_norm";
  return n;
}

constexpr EncoderNames nomic_names() {
  EncoderNames n;
  n.words = "embeddings.word_embeddings";
  n.types = "embeddings.token_type_embeddings";
  n.embedding_norm = "emb_ln";
  n.layer = "encoder.layers.{}.";
  n.qkv = "attn.Wqkv";
  n.output = "attn.out_proj";
  n.attention_norm = "norm1";
  n.activated = "mlp.fc12";
  n.gate = "mlp.fc11";
  n.down = "mlp.fc2";
  n.mlp_norm = "norm2";
  return n;
}

constexpr EncoderNames gguf_names() {
  EncoderNames n;
  n.words = "token_embd";
  n.positions = "position_embd";
  n.types = "token_types";
  n.embedding_norm = "token_embd_norm";
  n.layer = "blk.{}.";
  n.q = "attn_q";
  n.k = "attn_k";
  n.v = "attn_v";
  n.qkv = "attn_qkv";
  n.output = "attn_output";
  n.attention_norm = "attn_output_norm";
  n.up = "ffn_up";
  n.activated = "ffn_gate";
  n.gate = "ffn_up";
  n.down = "ffn_down";
  n.mlp_norm = "layer_output_norm";
  return n;
}

constexpr EncoderNames decoder_names() {
  EncoderNames n;
  n.words = "embed_tokens";
  n.final_norm = "norm";
  n.layer = "layers.{}.";
  n.q = "self_attn.q_proj";
  n.k = "self_attn.k_proj";
  n.v = "self_attn.v_proj";
  n.q_norm = "self_attn.q_norm";
  n.k_norm = "self_attn.k_norm";
  n.output = "self_attn.o_proj";
  n.attention_pre_norm = "input_layernorm";
  n.activated = "mlp.gate_proj";
  n.gate = "mlp.up_proj";
  n.down = "mlp.down_proj";
  n.mlp_pre_norm = "post_attention_layernorm";
  return n;
}

constexpr EncoderNames gguf_decoder_names() {
  EncoderNames n;
  n.words = "token_embd";
  n.final_norm = "output_norm";
  n.layer = "blk.{}.";
  n.q = "attn_q";
  n.k = "attn_k";
  n.v = "attn_v";
  n.q_norm = "attn_q_norm";
  n.k_norm = "attn_k_norm";
  n.output = "attn_output";
  n.attention_pre_norm = "attn_norm";
  n.activated = "ffn_gate";
  n.gate = "ffn_up";
  n.down = "ffn_down";
  n.mlp_pre_norm = "ffn_norm";
  return n;
}

constexpr EncoderNames kBert = bert_names(), kMpnet = mpnet_names(), kModernbert = modernbert_names(),
                       kNomic = nomic_names(), kGguf = gguf_names(), kDecoder = decoder_names(),
                       kGgufDecoder = gguf_decoder_names();
constexpr std::array<const char*, 6> kPrefixes{"", "bert.", "roberta.", "mpnet.", "model.", "encoder."};

}  // namespace

std::string EncoderNames::of_layer(std::size_t index, const char* name) const {
  std::string out = layer;
  out.replace(out.find("{}"), 2, std::to_string(index));
  return out + name;
}

const EncoderNames& encoder_names(const EncoderSpec& spec, bool gguf) {
  if (spec.causal) return gguf ? kGgufDecoder : kDecoder;
  if (gguf) return kGguf;
  if (spec.architecture == "mpnet") return kMpnet;
  if (spec.architecture == "nomic_bert") return kNomic;
  return spec.architecture == "modernbert" ? kModernbert : kBert;
}

std::string encoder_prefix(const WeightStore& store, const EncoderNames& names) {
  for (const char* prefix : kPrefixes)
    if (store.find(std::string(prefix) + names.words + ".weight")) return prefix;
  return "";
}

}  // namespace metal_candle
