#include "tokenizer/piece_decoder.h"

#include <utility>

#include "tokenizer/byte_level.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

class ByteLevelStep final : public DecodeStep {
 public:
  void push(std::string piece, DecodeState&, const Emit& emit) const override {
    std::string bytes;
    append_byte_level_bytes(piece, bytes);
    emit(std::move(bytes));
  }
};

class ReplaceStep final : public DecodeStep {
 public:
  ReplaceStep(std::string from, std::string to) : from_(std::move(from)), to_(std::move(to)) {}
  void push(std::string piece, DecodeState&, const Emit& emit) const override {
    const std::size_t before = piece.size();
    replace_all(piece, from_, to_);
    check_growth(before, piece.size());
    emit(std::move(piece));
  }

 private:
  std::string from_, to_;
};

class ByteFallbackStep final : public DecodeStep {
 public:
  void push(std::string piece, DecodeState& state, const Emit& emit) const override {
    const int byte = byte_of(piece);
    if (byte < 0) {
      finish(state, emit);
      emit(std::move(piece));
      return;
    }
    state.held.push_back(static_cast<char>(byte));
    if (!state.streaming) return;
    while (!state.held.empty() && incomplete_utf8_tail(state.held) < state.held.size()) {
      const Utf8Char c = read_utf8(state.held, 0);
      std::string text;
      append_utf8(c.code, text);
      state.held.erase(0, c.valid ? c.length : 1);
      emit(std::move(text));
    }
  }
  void finish(DecodeState& state, const Emit& emit) const override {
    const std::string bytes = std::exchange(state.held, {});
    if (bytes.empty()) return;
    if (find_invalid_utf8(bytes) == bytes.size()) return emit(bytes);
    std::string unreadable;
    for (std::size_t i = 0; i < bytes.size(); ++i) append_utf8(kReplacement, unreadable);
    emit(std::move(unreadable));
  }

 private:
  static int byte_of(std::string_view piece) {
    if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
    int value = 0;
    for (const char c : piece.substr(3, 2)) {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return -1;
      value = value * 16 + digit;
    }
    return value;
  }
};

class StripStep final : public DecodeStep {
 public:
  StripStep(std::string content, std::size_t start, std::size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  void push(std::string piece, DecodeState&, const Emit& emit) const override {
    std::string_view rest = piece;
    for (std::size_t i = 0; i < start_ && rest.starts_with(content_); ++i)
      rest.remove_prefix(content_.size());
    for (std::size_t i = 0; i < stop_ && rest.ends_with(content_); ++i) rest.remove_suffix(content_.size());
    emit(std::string(rest));
  }

 private:
  std::string content_;
  std::size_t start_, stop_;
};

class TextStripStep final : public DecodeStep {
 public:
  TextStripStep(std::string content, std::size_t start) : content_(std::move(content)), start_(start) {}
  void push(std::string piece, DecodeState& state, const Emit& emit) const override {
    std::string_view rest = piece;
    while (state.taken < start_ && rest.starts_with(content_)) {
      rest.remove_prefix(content_.size());
      ++state.taken;
    }
    if (!rest.empty()) state.taken = start_;
    emit(std::string(rest));
  }

 private:
  std::string content_;
  std::size_t start_;
};

class MetaspaceStep final : public DecodeStep {
 public:
  MetaspaceStep(std::string replacement, bool strip_first)
      : replacement_(std::move(replacement)), strip_first_(strip_first) {}
  void push(std::string piece, DecodeState& state, const Emit& emit) const override {
    const bool first = std::exchange(state.first, false);
    replace_all(piece, replacement_, first && strip_first_ ? "" : " ");
    emit(std::move(piece));
  }

 private:
  std::string replacement_;
  bool strip_first_;
};

class WordPieceStep final : public DecodeStep {
 public:
  WordPieceStep(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}
  void push(std::string piece, DecodeState& state, const Emit& emit) const override {
    if (!std::exchange(state.first, false)) {
      if (piece.starts_with(prefix_)) {
        piece.erase(0, prefix_.size());
      } else {
        piece.insert(0, 1, ' ');
      }
    }
    if (cleanup_) {
      constexpr std::pair<const char*, const char*> kTight[] = {
          {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
          {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
          {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
      for (const auto& [from, to] : kTight) replace_all(piece, from, to);
    }
    emit(std::move(piece));
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class JoinStep final : public DecodeStep {
 public:
  void push(std::string piece, DecodeState& state, const Emit& emit) const override {
    if (!std::exchange(state.first, false)) piece.insert(0, 1, ' ');
    emit(std::move(piece));
  }
};

}  // namespace

void PieceDecoder::feed(std::size_t step, std::string piece, States& states, std::string& out) const {
  if (step == steps_.size()) {
    out += piece;
    return;
  }
  steps_[step]->push(std::move(piece), states[step],
                     [&](std::string text) { feed(step + 1, std::move(text), states, out); });
}

void PieceDecoder::push(std::string_view piece, States& states, std::string& out) const {
  feed(0, std::string(piece), states, out);
}

void PieceDecoder::finish(States& states, std::string& out) const {
  for (std::size_t step = 0; step < steps_.size(); ++step) {
    steps_[step]->finish(states[step],
                         [&](std::string text) { feed(step + 1, std::move(text), states, out); });
  }
}

std::unique_ptr<DecodeStep> make_byte_level_step() { return std::make_unique<ByteLevelStep>(); }
std::unique_ptr<DecodeStep> make_replace_step(std::string from, std::string to) {
  return std::make_unique<ReplaceStep>(std::move(from), std::move(to));
}
std::unique_ptr<DecodeStep> make_byte_fallback_step() { return std::make_unique<ByteFallbackStep>(); }
std::unique_ptr<DecodeStep> make_strip_step(std::string content, std::size_t start, std::size_t stop) {
  return std::make_unique<StripStep>(std::move(content), start, stop);
}
std::unique_ptr<DecodeStep> make_text_strip_step(std::string content, std::size_t start) {
  return std::make_unique<TextStripStep>(std::move(content), start);
}
std::unique_ptr<DecodeStep> make_metaspace_step(std::string replacement, bool strip_first) {
  return std::make_unique<MetaspaceStep>(std::move(replacement), strip_first);
}
std::unique_ptr<DecodeStep> make_wordpiece_step(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceStep>(std::move(prefix), cleanup);
}
std::unique_ptr<DecodeStep> make_join_step() { return std::make_unique<JoinStep>(); }

}  // namespace metal_candle
