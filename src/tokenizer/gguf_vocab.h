// A tokenizer from a GGUF file's metadata, as plain data. It does not read the file: the caller
// fills GgufVocab from the `tokenizer.ggml.*` keys, which are named beside each field.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// The `tokenizer.ggml.*` metadata of one file. Views only: everything must stay alive during
/// make_tokenizer(), which copies what it keeps. Absent keys stay empty.
struct GgufVocab {
  std::string_view model;                ///< .model: "gpt2", "llama" or "bert"
  std::string_view pre;                  ///< .pre: "smollm", "llama-bpe", "qwen2", ...
  std::vector<std::string_view> tokens;  ///< .tokens; a token's id is its index
  std::span<const std::int32_t> types;   ///< .token_type: empty or one a token
  std::span<const float> scores;         ///< .scores: empty or one a token (the "llama" model)
  std::vector<std::string_view> merges;  ///< .merges: "left right", best first ("gpt2" model)

  std::optional<TokenId> bos;        ///< .bos_token_id ("bert": the classifier token, else .cls_token_id)
  std::optional<TokenId> eos;        ///< .eos_token_id
  std::optional<TokenId> unknown;    ///< .unknown_token_id
  std::optional<TokenId> separator;  ///< .seperator_token_id (GGUF's spelling)
  std::optional<TokenId> padding;    ///< .padding_token_id
  std::optional<TokenId> cls;        ///< .cls_token_id
  std::optional<TokenId> eot;        ///< .eot_token_id
  std::optional<TokenId> eom;        ///< .eom_token_id

  std::optional<bool> add_bos;           ///< .add_bos_token
  std::optional<bool> add_eos;           ///< .add_eos_token
  std::optional<bool> add_sep;           ///< .add_sep_token
  std::optional<bool> add_space_prefix;  ///< .add_space_prefix ("llama" model; true if absent)
};

/// Builds the tokenizer. Ids equal those of Python's `tokenizers` given the same vocabulary.
/// Throws Error: unsupported (a model or pre-tokenizer that is not known; the message lists the
/// known) or malformed_file (no tokens, wrong counts, a merge of unknown pieces, ids out of range).
std::unique_ptr<Tokenizer> make_tokenizer(const GgufVocab& vocab);

}  // namespace metal_candle
