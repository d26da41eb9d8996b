// Text to token ids and back: the interface of every tokenizer. How text is cut is the business of
// src/tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

using TokenId = std::int32_t;

struct EncodeOptions {
  bool add_special = true;    ///< Add BOS/EOS (or CLS/SEP) where the tokenizer's own configuration does.
  bool parse_special = true;  ///< Match special tokens written out in the text.
  bool strict_utf8 = false;   ///< Invalid UTF-8 is Error(invalid_argument) instead of U+FFFD.
};

/// Turns token ids into text one at a time, holding back bytes until a UTF-8 character is whole.
/// One per stream; not thread-safe.
class TextDecoder {
 public:
  virtual ~TextDecoder() = default;
  /// Text completed by this token; possibly empty. Always valid UTF-8.
  virtual std::string push(TokenId id) = 0;
  /// What is still held back, with incomplete characters as U+FFFD. The decoder is then empty.
  virtual std::string flush() = 0;
};

/// Immutable after construction; every const member may be called from any thread.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Ids of `text`. Invalid UTF-8 is read as Python's errors="replace" reads it (U+FFFD), unless
  /// options.strict_utf8. Throws Error(invalid_argument) for that and for texts of 2 GiB or more.
  virtual std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const = 0;

  /// Text of `ids`; valid UTF-8. Throws Error(invalid_argument) on an id outside the vocabulary.
  virtual std::string decode(std::span<const TokenId> ids, bool skip_special = false) const = 0;

  /// A decoder for one stream of tokens; the tokenizer must outlive it. `skip_special`: special tokens
  /// yield no text.
  virtual std::unique_ptr<TextDecoder> make_decoder(bool skip_special = false) const = 0;

  virtual std::size_t vocab_size() const noexcept = 0;
  /// The vocabulary's own spelling of a token ("Ġthe", "<|im_end|>"); empty view if out of range.
  virtual std::string_view piece(TokenId id) const noexcept = 0;
  virtual std::optional<TokenId> find(std::string_view piece) const noexcept = 0;
  virtual bool is_special(TokenId id) const noexcept = 0;

  virtual std::optional<TokenId> bos() const noexcept = 0;
  virtual std::optional<TokenId> eos() const noexcept = 0;
  /// True for every token that ends a generation (EOS and the family's end-of-turn tokens).
  virtual bool ends_generation(TokenId id) const noexcept = 0;
  /// The family's name: "bpe", "unigram", "wordpiece".
  virtual std::string_view kind() const noexcept = 0;
};

}  // namespace metal_candle
