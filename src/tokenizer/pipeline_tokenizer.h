// The one Tokenizer: added tokens, normalizer, pre-tokenizer, model, post-processing and decoder in a
// row, as in Hugging Face's tokenizers. The loaders (gguf_vocab, tokenizer_json) fill in the parts.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "metal_candle/tokenizer.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/piece_decoder.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/token_model.h"
#include "tokenizer/vocabulary.h"

namespace metal_candle {

struct TokenizerParts {
  std::shared_ptr<const Vocabulary> vocabulary;  ///< The model's own pieces.
  std::vector<AddedToken> added;                 ///< Their ids may lie inside or beyond the vocabulary.
  std::unique_ptr<Normalizer> normalizer;        ///< May be null.
  std::unique_ptr<PreTokenizer> pre_tokenizer;   ///< May be null.
  std::unique_ptr<TokenModel> model;
  PieceDecoder decoder;
  std::vector<TokenId> prefix, suffix;  ///< Put around the ids where add_special asks for it.
  std::optional<TokenId> bos, eos;
  std::vector<TokenId> end_tokens;  ///< Besides eos and those known by their text.
};

/// Throws Error(malformed_file) if an id is negative or beyond 2^30.
std::unique_ptr<Tokenizer> make_pipeline_tokenizer(TokenizerParts parts);

}  // namespace metal_candle
