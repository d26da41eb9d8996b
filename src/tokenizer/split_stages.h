// The pre-tokenizers that tokenizer.json names, but for the hand-written matchers of word_splitters.h.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/pre_tokenizer.h"

namespace metal_candle {

/// What becomes of the text that a splitter matches.
enum class SplitBehavior {
  removed,               ///< It is dropped.
  isolated,              ///< Every match is a piece.
  merged_with_previous,  ///< It joins the piece before it.
  merged_with_next,      ///< It joins the piece after it.
  contiguous,            ///< Neighbouring matches are one piece.
};

/// Splits at the matches of an expression; `invert`: at what it does not match.
/// A hand-written matcher takes the place of well-known expressions. Throws as Regex does.
std::unique_ptr<PreTokenizer> make_regex_splitter(const std::string& expression, SplitBehavior behavior,
                                                  bool invert);
/// Splits at a literal text, which must not be empty.
std::unique_ptr<PreTokenizer> make_text_splitter(std::string text, SplitBehavior behavior, bool invert);
/// Splits at punctuation: \p{P} and ASCII's.
std::unique_ptr<PreTokenizer> make_punctuation_splitter(SplitBehavior behavior);
/// Splits at white space, which is dropped.
std::unique_ptr<PreTokenizer> make_whitespace_splitter();
/// Keeps \w+|[^\w\s]+.
std::unique_ptr<PreTokenizer> make_word_splitter();
/// BERT: white space dropped, punctuation isolated.
std::unique_ptr<PreTokenizer> make_bert_splitter();

/// Puts a space before a piece that does not start with one.
std::unique_ptr<PreTokenizer> make_space_prefixer();
/// Writes the pieces in the byte-level alphabet. Not needed before a Bpe with byte_level.
std::unique_ptr<PreTokenizer> make_byte_level_writer();

enum class PrependScheme { first, never, always };
/// SentencePiece's: spaces become `replacement` (one character), which is put before a piece as `prepend`
/// says; `split`: cuts before every replacement.
std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme prepend, bool split);

}  // namespace metal_candle
