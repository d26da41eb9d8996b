// When an answer ends, and which text it has by then: stop tokens, stop strings, length.
// Not here: cancellation (token_stream.h) and the choice of tokens (sampler.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/generate.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// Finds stop strings in text that arrives in pieces. One per sequence; not thread-safe.
/// The answer depends on the text only, not on where it was cut: the match is the first to be complete, and
/// of several complete at the same character the longest.
class StopMatcher {
 public:
  /// Throws Error(invalid_argument) for an empty string or one that begins inside a UTF-8 character.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Appends text; returns what is now certain to be before any match. Linear in `text`.
  std::string push(std::string_view text);
  /// What was held back as the possible beginning of a stop string.
  std::string flush();
  /// A stop string was found; push() and flush() return nothing from then on.
  bool stopped() const noexcept { return stopped_; }

 private:
  // Knuth-Morris-Pratt: `matched` bytes of `text` are the longest suffix of the input that begins it.
  struct Pattern {
    std::string text;
    std::vector<std::size_t> border;
    std::size_t matched = 0;
    void advance(char c);
  };
  std::vector<Pattern> patterns_;
  std::string held_;
  bool stopped_ = false;
};

struct StopOptions {
  std::size_t max_tokens = 0;             ///< 0: no limit of its own (the context still is one).
  std::vector<std::string> strings = {};  ///< Cut from the text.
  std::vector<TokenId> tokens = {};       ///< End the answer besides the tokenizer's own.
  bool ignore_eos = false;                ///< Go on past the tokenizer's own end tokens (benchmarks).
};

/// Text that a token completed, and whether the answer ends with it.
struct StopStep {
  std::string text;
  FinishReason reason = FinishReason::none;
};

/// Turns the tokens of one answer into its text and notices its end. The texts of all steps, concatenated,
/// are the answer: held-back text comes with the last. Special tokens have no text. Not thread-safe.
class StopConditions {
 public:
  /// `tokenizer` must outlive this object.
  StopConditions(const Tokenizer& tokenizer, StopOptions options);

  StopStep push(TokenId token);
  /// For an answer that ends for another reason (cancelled, context full): what is held back.
  std::string flush();

 private:
  bool stops_at(TokenId token) const;

  const Tokenizer& tokenizer_;
  StopOptions options_;
  std::unique_ptr<TextDecoder> decoder_;
  StopMatcher matcher_;
  std::size_t count_ = 0;
};

}  // namespace metal_candle
