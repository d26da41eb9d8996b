// A complete Llama GGUF of a few kilobytes with random weights and one token per byte, for tests that need
// a valid model to spoil, or a fast one.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "support/gguf_builder.h"

namespace metal_candle::test {

inline constexpr std::uint32_t kTinyVocab = 259;  // 256 bytes, BOS, EOS and "aa", the only merge
inline constexpr std::uint32_t kTinyContext = 64;

struct TinyModel {
  std::string architecture = "llama";
  bool tokenizer = true;
  float norm = 1.0f;  ///< Weight of the last norm; NaN makes every logit NaN.

  GgufBuilder build() const {
    GgufBuilder gguf;
    const std::string a = architecture + ".";
    gguf.set("general.architecture", architecture);
    gguf.set(a + "block_count", std::uint32_t{1}).set(a + "context_length", kTinyContext);
    gguf.set(a + "embedding_length", std::uint32_t{32}).set(a + "feed_forward_length", std::uint32_t{64});
    gguf.set(a + "attention.head_count", std::uint32_t{4});
    gguf.set(a + "attention.head_count_kv", std::uint32_t{2});
    gguf.set(a + "attention.layer_norm_rms_epsilon", 1e-5f).set(a + "rope.freq_base", 10000.0f);
    gguf.set(a + "rope.dimension_count", std::uint32_t{8}).set(a + "vocab_size", kTinyVocab);
    if (tokenizer) add_tokenizer(gguf);
    std::mt19937 random(1);
    const auto add = [&](const std::string& name, std::vector<std::uint64_t> shape) {
      std::uint64_t n = 1;
      for (const std::uint64_t d : shape) n *= d;
      std::normal_distribution<float> normal(0, 0.3f);
      std::vector<float> values(n);
      for (float& x : values) x = normal(random);
      gguf.tensor(name, DType::f32, std::move(shape), values);
    };
    const auto ones = [&](const std::string& name, float value) {
      gguf.tensor(name, DType::f32, {32}, std::vector<float>(32, value));
    };
    add("token_embd.weight", {kTinyVocab, 32});
    add("output.weight", {kTinyVocab, 32});
    ones("output_norm.weight", norm);
    ones("blk.0.attn_norm.weight", 1);
    ones("blk.0.ffn_norm.weight", 1);
    add("blk.0.attn_q.weight", {32, 32});
    add("blk.0.attn_k.weight", {16, 32});
    add("blk.0.attn_v.weight", {16, 32});
    add("blk.0.attn_output.weight", {32, 32});
    add("blk.0.ffn_gate.weight", {64, 32});
    add("blk.0.ffn_up.weight", {64, 32});
    add("blk.0.ffn_down.weight", {32, 64});
    return gguf;
  }

 private:
  /// GPT-2's spelling of a byte: printable Latin-1 stands for itself, the others follow from U+0100.
  static std::vector<std::string> byte_pieces() {
    std::vector<std::string> pieces;
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t code = printable ? b : next++;
      if (code < 0x80) {
        pieces.emplace_back(1, static_cast<char>(code));
      } else {
        pieces.push_back({static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))});
      }
    }
    return pieces;
  }

  static void add_tokenizer(GgufBuilder& gguf) {
    std::vector<std::string> tokens = byte_pieces();
    std::vector<std::int32_t> types(256, 1);
    for (const char* special : {"<s>", "</s>"}) {
      tokens.emplace_back(special);
      types.push_back(3);
    }
    tokens.emplace_back("aa");
    types.push_back(1);
    gguf.set("tokenizer.ggml.model", std::string("gpt2")).set("tokenizer.ggml.pre", std::string("gpt-2"));
    gguf.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.token_type", types);
    gguf.set("tokenizer.ggml.merges", std::vector<std::string>{"a a"});
    gguf.set("tokenizer.ggml.bos_token_id", std::uint32_t{256});
    gguf.set("tokenizer.ggml.eos_token_id", std::uint32_t{257});
    gguf.set("tokenizer.ggml.add_bos_token", false);
  }
};

}  // namespace metal_candle::test
