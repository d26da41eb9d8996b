// Hand-written matchers for the regular expressions that most byte-level vocabularies share. They cut
// exactly as the expressions do, several times faster than a regex engine. Others go through PCRE2.
#pragma once

#include <memory>
#include <string_view>

#include "tokenizer/pre_tokenizer.h"

namespace metal_candle {

/// GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::unique_ptr<PreTokenizer> make_gpt2_splitter();

/// Llama 3 (digits = 3) and Qwen 2 (digits = 1):
/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+
std::unique_ptr<PreTokenizer> make_llama3_splitter(unsigned digits);

/// Numeric characters (\p{N}) apart from the rest: each alone, or in runs.
std::unique_ptr<PreTokenizer> make_digit_splitter(bool individual);

/// The splitter for exactly this expression, or null if there is no hand-written one.
std::unique_ptr<PreTokenizer> find_word_splitter(std::string_view expression);

}  // namespace metal_candle
