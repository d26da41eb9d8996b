// The pre-tokenizers that GGUF files name in tokenizer.ggml.pre. Inside the room: for gguf_vocab.cpp.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "tokenizer/pre_tokenizer.h"

namespace metal_candle {

/// What tokenizer.ggml.pre stands for: the components of the family's own tokenizer.json.
struct GgufPreTokenizer {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  bool byte_level = true;  ///< The model writes the byte-level alphabet, not a stage.
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

/// Throws Error(unsupported), listing the known names.
GgufPreTokenizer find_gguf_pre_tokenizer(std::string_view pre);

}  // namespace metal_candle
