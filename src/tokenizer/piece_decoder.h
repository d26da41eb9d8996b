// The way back from pieces to text: a chain of steps, each of which rewrites the pieces of the one before.
// Pieces pass one by one, so that a stream can be decoded as it comes.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace metal_candle {

/// What a step remembers between the pieces of one text.
struct DecodeState {
  bool streaming = false;  ///< Give text out as soon as possible, not only once it can no longer change.
  bool first = true;
  std::size_t taken = 0;
  std::string held = {};
};

/// Immutable; any thread may use it, each text with its own state.
class DecodeStep {
 public:
  using Emit = std::function<void(std::string)>;
  virtual ~DecodeStep() = default;
  virtual void push(std::string piece, DecodeState& state, const Emit& emit) const = 0;
  /// After the last piece.
  virtual void finish(DecodeState&, const Emit&) const {}
};

/// The steps in a row. Immutable.
class PieceDecoder {
 public:
  PieceDecoder() = default;
  explicit PieceDecoder(std::vector<std::unique_ptr<DecodeStep>> steps) : steps_(std::move(steps)) {}

  using States = std::vector<DecodeState>;
  States start(bool streaming) const { return States(steps_.size(), DecodeState{.streaming = streaming}); }
  /// Appends the bytes that a piece adds; a character may be spread over several pieces.
  void push(std::string_view piece, States& states, std::string& out) const;
  void finish(States& states, std::string& out) const;

 private:
  void feed(std::size_t step, std::string piece, States& states, std::string& out) const;
  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

/// Pieces in the byte-level alphabet become bytes.
std::unique_ptr<DecodeStep> make_byte_level_step();
/// Replaces every occurrence of a text, which must not be empty.
std::unique_ptr<DecodeStep> make_replace_step(std::string from, std::string to);
/// <0xXX> pieces become bytes. A run of them that is not UTF-8 becomes one U+FFFD a byte; a streaming
/// decoder has then already given out the characters at the start of the run that are.
std::unique_ptr<DecodeStep> make_byte_fallback_step();
/// Removes up to `start` and `stop` times the character `content` at the ends of every piece.
std::unique_ptr<DecodeStep> make_strip_step(std::string content, std::size_t start, std::size_t stop);
/// The same at the start of the whole text (a strip step behind a fuse step).
std::unique_ptr<DecodeStep> make_text_strip_step(std::string content, std::size_t start);
/// SentencePiece's ▁ becomes a space; with `strip_first`, those of the first piece vanish.
std::unique_ptr<DecodeStep> make_metaspace_step(std::string replacement, bool strip_first);
/// Pieces without `prefix` start a word, before which stands a space; `cleanup` tightens English punctuation.
std::unique_ptr<DecodeStep> make_wordpiece_step(std::string prefix, bool cleanup);
/// Pieces joined with spaces, as tokenizers does without a decoder.
std::unique_ptr<DecodeStep> make_join_step();

}  // namespace metal_candle
