// Cutting text into the pieces that the model sees one by one. Each stage cuts the pieces of the one
// before it. Here: the state passed along and the interface; the stages are in word_splitters.h,
// split_stages.h and metaspace.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/error.h"

namespace metal_candle {

/// Part of a text, in bytes.
struct PieceRange {
  std::uint32_t begin, end;
};

/// The text on its way through the stages. Borrows the text it starts with. Not thread-safe.
class PreTokens {
 public:
  /// Starts over with one piece. `first`: the text stands at the start of the whole input.
  /// Throws Error(invalid_argument) if it is 2 GiB or more.
  void reset(std::string_view text, bool first) {
    check_size(text.size());
    text_ = text;
    first_ = first;
    pieces_.clear();
    if (!text.empty()) pieces_.push_back({0, static_cast<std::uint32_t>(text.size())});
  }

  const std::vector<PieceRange>& pieces() const noexcept { return pieces_; }
  std::string_view text(PieceRange range) const noexcept {
    return text_.substr(range.begin, range.end - range.begin);
  }
  /// Whether a piece stands at the start of the whole input.
  bool at_start(PieceRange range) const noexcept { return first_ && range.begin == 0; }

  /// cut(text, range, out) appends the parts of text[range] to keep. It drops none that is not empty
  /// unless the stage removes text.
  template <typename Cut>
  void cut(const Cut& cut) {
    scratch_.clear();
    for (const PieceRange range : pieces_) cut(text_, range, scratch_);
    std::erase_if(scratch_, [](PieceRange r) { return r.begin == r.end; });
    pieces_.swap(scratch_);
  }

  /// rewrite(piece, range, out) appends the new text of each piece.
  /// Throws Error(invalid_argument) if all of it is 2 GiB or more.
  template <typename Rewrite>
  void rewrite(const Rewrite& rewrite) {
    std::string next;
    next.reserve(text_.size() + text_.size() / 8 + 8);
    for (PieceRange& range : pieces_) {
      const auto begin = static_cast<std::uint32_t>(next.size());
      rewrite(text(range), range, next);
      check_size(next.size());
      range = {begin, static_cast<std::uint32_t>(next.size())};
    }
    storage_ = std::move(next);
    text_ = storage_;
  }

 private:
  static void check_size(std::size_t size) {
    if (size >> 31)
      throw Error(ErrorCode::invalid_argument, "tokenizer: the text is longer than 2 GiB; split it");
  }

  std::string_view text_;
  std::string storage_;
  bool first_ = true;
  std::vector<PieceRange> pieces_, scratch_;
};

/// Immutable; any thread may call run().
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void run(PreTokens& tokens) const = 0;
};

/// Several stages, one after the other.
class PreTokenizerSequence final : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> stages)
      : stages_(std::move(stages)) {}
  void run(PreTokens& tokens) const override {
    for (const auto& stage : stages_) stage->run(tokens);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

}  // namespace metal_candle
