// The normalizers that tokenizer.json names, each as a function that makes one.
// The charsmap of SentencePiece is in precompiled_charsmap.h.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/normalizer.h"

namespace metal_candle {

enum class UnicodeForm { nfc, nfd, nfkc, nfkd };

/// Unicode normalisation (utf8proc).
std::unique_ptr<Normalizer> make_unicode_normalizer(UnicodeForm form);
/// Every character's own lower case, without regard to its neighbours.
std::unique_ptr<Normalizer> make_lowercase_normalizer();
/// Removes combining marks (Mn, Mc, Me).
std::unique_ptr<Normalizer> make_strip_accents_normalizer();
/// Removes white space at the ends.
std::unique_ptr<Normalizer> make_strip_normalizer(bool left, bool right);
/// Puts `text` before a text that is not empty.
std::unique_ptr<Normalizer> make_prepend_normalizer(std::string text);
/// Replaces every occurrence of a text, which must not be empty.
std::unique_ptr<Normalizer> make_replace_normalizer(std::string from, std::string to);
/// Replaces every match of an expression. Throws as Regex does.
std::unique_ptr<Normalizer> make_regex_replace_normalizer(const std::string& expression, std::string to);
/// SentencePiece's "nmt" clean-up of control characters and rare spaces.
std::unique_ptr<Normalizer> make_nmt_normalizer();
/// Writes the text in the byte-level alphabet.
std::unique_ptr<Normalizer> make_byte_level_normalizer();

struct BertNormalizerOptions {
  bool clean_text = true;            ///< Drops control characters; every white space becomes a space.
  bool handle_chinese_chars = true;  ///< Spaces around CJK ideographs.
  bool strip_accents = true;         ///< NFD, then without nonspacing marks.
  bool lowercase = true;
};
std::unique_ptr<Normalizer> make_bert_normalizer(BertNormalizerOptions options);

}  // namespace metal_candle
