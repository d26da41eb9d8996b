#include "tokenizer/split_stages.h"

#include <utility>

#include "tokenizer/byte_level.h"
#include "tokenizer/old_classes.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"
#include "tokenizer/word_splitters.h"

namespace metal_candle {
namespace {

/// Collects matches and the gaps between them, and keeps what a behaviour keeps.
class Splits {
 public:
  Splits(SplitBehavior behavior, bool invert, PieceRange range, std::vector<PieceRange>& out)
      : behavior_(behavior), invert_(invert), at_(range.begin), end_(range.end), out_(out) {}

  void match(std::uint32_t begin, std::uint32_t end) {
    if (at_ < begin) add({at_, begin}, false);
    add({begin, end}, true);
    at_ = end;
  }
  void finish() {
    if (at_ < end_) add({at_, end_}, false);
    if (waiting_) out_.push_back(waiting_range_);
  }

 private:
  void add(PieceRange range, bool matched) {
    if (invert_) matched = !matched;
    const bool after_match = std::exchange(previous_match_, matched);
    switch (behavior_) {
      case SplitBehavior::removed:
        if (!matched) out_.push_back(range);
        return;
      case SplitBehavior::isolated: out_.push_back(range); return;
      case SplitBehavior::contiguous:
        if (has_last_ && matched == after_match) {
          out_.back().end = range.end;
        } else {
          push(range);
        }
        return;
      case SplitBehavior::merged_with_previous:
        if (has_last_ && matched && !after_match) {
          out_.back().end = range.end;
        } else {
          push(range);
        }
        return;
      case SplitBehavior::merged_with_next:
        // Seen from the right: the last match of a run joins the text after it.
        if (matched) {
          if (waiting_) out_.push_back(waiting_range_);
          waiting_ = true;
          waiting_range_ = range;
        } else {
          if (waiting_) range.begin = waiting_range_.begin;
          waiting_ = false;
          out_.push_back(range);
        }
        return;
    }
  }
  void push(PieceRange range) {
    has_last_ = true;
    out_.push_back(range);
  }

  const SplitBehavior behavior_;
  const bool invert_;
  std::uint32_t at_, end_;
  std::vector<PieceRange>& out_;
  bool previous_match_ = false, has_last_ = false, waiting_ = false;
  PieceRange waiting_range_{0, 0};
};

class RegexSplitter final : public PreTokenizer {
 public:
  RegexSplitter(const std::string& expression, SplitBehavior behavior, bool invert)
      : regex_(expression), behavior_(behavior), invert_(invert) {}
  void run(PreTokens& tokens) const override {
    tokens.cut([&](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      Splits splits(behavior_, invert_, range, out);
      // A piece is a text of its own: look-around must not see its neighbours.
      Regex::Search search(regex_, text.substr(range.begin, range.end - range.begin));
      while (search.next()) {
        splits.match(range.begin + static_cast<std::uint32_t>(search.begin()),
                     range.begin + static_cast<std::uint32_t>(search.end()));
      }
      splits.finish();
    });
  }

 private:
  Regex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

class TextSplitter final : public PreTokenizer {
 public:
  TextSplitter(std::string text, SplitBehavior behavior, bool invert)
      : separator_(std::move(text)), behavior_(behavior), invert_(invert) {}
  void run(PreTokens& tokens) const override {
    tokens.cut([&](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      Splits splits(behavior_, invert_, range, out);
      const std::string_view piece = text.substr(0, range.end);
      std::size_t at = piece.find(separator_, range.begin);
      for (; at != std::string_view::npos; at = piece.find(separator_, at + separator_.size())) {
        splits.match(static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(at + separator_.size()));
      }
      splits.finish();
    });
  }

 private:
  std::string separator_;
  SplitBehavior behavior_;
  bool invert_;
};

/// Splits at single characters of a class.
template <bool (*In)(const CharClasses&, char32_t)>
class CharSplitter final : public PreTokenizer {
 public:
  CharSplitter(SplitBehavior behavior, bool invert = false) : behavior_(behavior), invert_(invert) {}
  void run(PreTokens& tokens) const override {
    tokens.cut([&](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      const CharClasses classes;
      Splits splits(behavior_, invert_, range, out);
      for (std::uint32_t at = range.begin; at < range.end;) {
        const Utf8Char c = read_utf8(text, at);
        if (In(classes, c.code)) splits.match(at, at + c.length);
        at += c.length;
      }
      splits.finish();
    });
  }

 private:
  SplitBehavior behavior_;
  bool invert_;
};

bool is_space(const CharClasses& classes, char32_t c) { return classes(c) & char_class_bits::space; }
bool is_punctuation(const CharClasses& classes, char32_t c) {
  if (c < 0x80) return classes(c) & (char_class_bits::punctuation | char_class_bits::symbol);
  return OldCharClasses()(c) & old_class_bits::punctuation;
}

class WordSplitter final : public PreTokenizer {
 public:
  void run(PreTokens& tokens) const override {
    tokens.cut([](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      const CharClasses classes;
      enum Kind { space, word, other };
      std::uint32_t begin = range.begin;
      Kind kind = space;
      for (std::uint32_t at = range.begin; at < range.end;) {
        const Utf8Char c = read_utf8(text, at);
        const Kind next = is_space(classes, c.code)            ? space
                          : is_word_character(classes, c.code) ? word
                                                               : other;
        if (next != kind) {
          if (kind != space) out.push_back({begin, at});
          begin = at;
          kind = next;
        }
        at += c.length;
      }
      if (kind != space) out.push_back({begin, range.end});
    });
  }
};

/// A stage made of a function on PreTokens.
template <typename F>
class FunctionStage final : public PreTokenizer {
 public:
  explicit FunctionStage(F function) : function_(std::move(function)) {}
  void run(PreTokens& tokens) const override { function_(tokens); }

 private:
  F function_;
};

template <typename F>
std::unique_ptr<PreTokenizer> stage(F function) {
  return std::make_unique<FunctionStage<F>>(std::move(function));
}

}  // namespace

std::unique_ptr<PreTokenizer> make_regex_splitter(const std::string& expression, SplitBehavior behavior,
                                                  bool invert) {
  // The hand-written expressions match every character, so that removing what is not matched, as
  // GPT-4's (removed, inverted) does, isolates too.
  const bool isolates = behavior == SplitBehavior::isolated || (behavior == SplitBehavior::removed && invert);
  if (auto known = isolates ? find_word_splitter(expression) : nullptr) return known;
  return std::make_unique<RegexSplitter>(expression, behavior, invert);
}
std::unique_ptr<PreTokenizer> make_text_splitter(std::string text, SplitBehavior behavior, bool invert) {
  return std::make_unique<TextSplitter>(std::move(text), behavior, invert);
}
std::unique_ptr<PreTokenizer> make_punctuation_splitter(SplitBehavior behavior) {
  return std::make_unique<CharSplitter<is_punctuation>>(behavior);
}
std::unique_ptr<PreTokenizer> make_whitespace_splitter() {
  return std::make_unique<CharSplitter<is_space>>(SplitBehavior::removed);
}
std::unique_ptr<PreTokenizer> make_word_splitter() { return std::make_unique<WordSplitter>(); }
std::unique_ptr<PreTokenizer> make_bert_splitter() {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  stages.push_back(make_whitespace_splitter());
  stages.push_back(make_punctuation_splitter(SplitBehavior::isolated));
  return std::make_unique<PreTokenizerSequence>(std::move(stages));
}

std::unique_ptr<PreTokenizer> make_space_prefixer() {
  return stage([](PreTokens& tokens) {
    tokens.rewrite([](std::string_view piece, PieceRange, std::string& out) {
      if (!piece.starts_with(' ')) out += ' ';
      out += piece;
    });
  });
}
std::unique_ptr<PreTokenizer> make_byte_level_writer() {
  return stage([](PreTokens& tokens) {
    tokens.rewrite(
        [](std::string_view piece, PieceRange, std::string& out) { append_byte_level(piece, out); });
  });
}
std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme prepend, bool split) {
  return stage([replacement = std::move(replacement), prepend, split](PreTokens& tokens) {
    tokens.rewrite([&](std::string_view piece, PieceRange range, std::string& out) {
      const bool wanted =
          prepend == PrependScheme::always || (prepend == PrependScheme::first && tokens.at_start(range));
      if (wanted && !piece.starts_with(' ') && !piece.starts_with(replacement)) out += replacement;
      for (std::size_t at = 0; at < piece.size();) {
        const std::size_t space = piece.find(' ', at);
        out += piece.substr(at, space - at);
        if (space == std::string_view::npos) break;
        out += replacement;
        at = space + 1;
      }
    });
    if (!split) return;
    tokens.cut([&](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      const std::string_view piece = text.substr(0, range.end);
      std::size_t begin = range.begin;
      while (begin < range.end) {
        const std::size_t next = piece.find(replacement, begin + 1);
        const std::size_t end = next == std::string_view::npos ? range.end : next;
        out.push_back({static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)});
        begin = end;
      }
    });
  });
}

}  // namespace metal_candle
