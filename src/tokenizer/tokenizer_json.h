// A tokenizer from Hugging Face's tokenizer.json (and tokenizer_config.json beside it), given as text:
// this room reads no files. Truncation and padding in them are ignored.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "metal_candle/tokenizer.h"

namespace metal_candle {

struct TokenizerJson {
  std::string_view json;                       ///< Text of tokenizer.json.
  std::string_view config = {};                ///< Text of tokenizer_config.json; empty if there is none.
  std::string_view source = "tokenizer.json";  ///< Named in messages.
  std::vector<TokenId> end_tokens = {};  ///< More tokens that end a generation (generation_config.json).
};

/// Ids equal those of Python's `tokenizers`, or with `config` of transformers: BOS and EOS come from
/// add_bos_token and add_eos_token for the tokenizer classes that rebuild their template from them
/// (Llama, CodeLlama, Gemma, Cohere), else from the post-processor; tokens that only the config lists in
/// added_tokens_decoder are added.
/// Models: BPE, Unigram, WordPiece. Throws Error: malformed_file (broken JSON, missing or absurd values),
/// unsupported (a component or option that is not known, named in the message).
std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerJson& files);

}  // namespace metal_candle
