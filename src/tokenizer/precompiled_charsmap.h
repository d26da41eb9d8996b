// SentencePiece's compiled normalization rules: a double-array trie (Darts) from byte strings to
// replacements. Format: u32 size of the trie in bytes, the trie's u32 units, then the replacements,
// each ended by a zero byte; a leaf's value is an offset into those.
#pragma once

#include <memory>
#include <string_view>

#include "tokenizer/normalizer.h"

namespace metal_candle {

/// From the bytes of a charsmap. Throws Error(malformed_file) if they break the format.
/// Applies rules to whole graphemes shorter than 6 bytes and else to characters, as tokenizers does.
std::unique_ptr<Normalizer> make_precompiled_normalizer(std::string_view charsmap);

/// From base64, as tokenizer.json holds it.
std::unique_ptr<Normalizer> make_precompiled_normalizer_base64(std::string_view base64);

}  // namespace metal_candle
