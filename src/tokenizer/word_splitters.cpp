#include "tokenizer/word_splitters.h"

#include <string>

#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

using namespace char_class_bits;

/// Reads characters of a piece by position. The text is valid UTF-8.
class Reader {
 public:
  Reader(std::string_view text, PieceRange range) : text_(text.substr(0, range.end)) {}
  struct Char {
    char32_t code;
    std::uint8_t bits;
    std::uint32_t next;
  };
  /// The character at `at`; requires at < end().
  Char at(std::uint32_t at) const noexcept {
    const auto byte = static_cast<unsigned char>(text_[at]);
    if (byte < 0x80) return {byte, classes_(byte), at + 1};
    const Utf8Char c = read_utf8(text_, at);
    return {c.code, classes_(c.code), at + c.length};
  }
  std::uint32_t end() const noexcept { return static_cast<std::uint32_t>(text_.size()); }
  /// End of the run of characters from `from` on whose bits & mask, as a truth value, is `in`.
  std::uint32_t run(std::uint32_t from, std::uint8_t mask, bool in = true) const noexcept {
    while (from < end()) {
      const Char c = at(from);
      if (((c.bits & mask) != 0) != in) break;
      from = c.next;
    }
    return from;
  }
  char byte(std::uint32_t at) const noexcept { return at < end() ? text_[at] : '\0'; }

 private:
  std::string_view text_;
  CharClasses classes_;
};

/// End of 's 't 'm 'd 're 've 'll at `at` (an apostrophe), or 0.
std::uint32_t contraction(const Reader& r, std::uint32_t at, bool any_case) {
  const auto letter_at = [&](std::uint32_t i) {
    const char c = r.byte(i);
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter_at(at + 1), second = letter_at(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  // U+017F, the long s, equals s when case does not matter.
  if (any_case && r.byte(at + 1) == '\xC5' && r.byte(at + 2) == '\xBF') return at + 3;
  return 0;
}

/// \s+(?!\S)|\s+ on the white space [at, run_end): the last character of the run is left to what follows.
std::uint32_t spaces(const Reader& r, std::uint32_t at, std::uint32_t run_end) {
  if (run_end == r.end()) return run_end;
  std::uint32_t last = at;
  for (std::uint32_t next = at; next < run_end; next = r.at(next).next) last = next;
  return last > at ? last : run_end;
}

class Gpt2Splitter final : public PreTokenizer {
 public:
  void run(PreTokens& tokens) const override {
    tokens.cut([](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      const Reader r(text, range);
      for (std::uint32_t at = range.begin; at < range.end;) {
        const std::uint32_t end = match(r, at);
        out.push_back({at, end});
        at = end;
      }
    });
  }

 private:
  static std::uint32_t match(const Reader& r, std::uint32_t at) {
    Reader::Char c = r.at(at);
    if (c.code == '\'') {
      if (const std::uint32_t end = contraction(r, at, false)) return end;
    }
    if (c.code == ' ' && c.next < r.end()) {
      const Reader::Char following = r.at(c.next);
      if (!(following.bits & space)) c = following;
    }
    if (c.bits & letter) return r.run(c.next, letter);
    if (c.bits & number) return r.run(c.next, number);
    if (!(c.bits & space)) return r.run(c.next, letter | number | space, false);
    return spaces(r, at, r.run(c.next, space));
  }
};

class Llama3Splitter final : public PreTokenizer {
 public:
  explicit Llama3Splitter(unsigned digits) : digits_(digits) {}
  void run(PreTokens& tokens) const override {
    tokens.cut([&](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      const Reader r(text, range);
      for (std::uint32_t at = range.begin; at < range.end;) {
        const std::uint32_t end = match(r, at);
        out.push_back({at, end});
        at = end;
      }
    });
  }

 private:
  std::uint32_t match(const Reader& r, std::uint32_t at) const {
    const Reader::Char c = r.at(at);
    if (c.code == '\'') {
      if (const std::uint32_t end = contraction(r, at, true)) return end;
    }
    if (c.bits & letter) return r.run(c.next, letter);
    if (c.bits & number) {
      std::uint32_t end = c.next;
      for (unsigned i = 1; i < digits_ && end < r.end(); ++i) {
        const Reader::Char next = r.at(end);
        if (!(next.bits & number)) break;
        end = next.next;
      }
      return end;
    }
    const bool newline = c.code == '\r' || c.code == '\n';
    Reader::Char following{0, space, 0};
    if (c.next < r.end()) following = r.at(c.next);
    if (!newline && (following.bits & letter)) return r.run(following.next, letter);
    const bool spaced = c.code == ' ' && !(following.bits & (space | letter | number));
    if (spaced || !(c.bits & space)) {
      std::uint32_t end = r.run(spaced ? following.next : c.next, letter | number | space, false);
      while (r.byte(end) == '\r' || r.byte(end) == '\n') ++end;
      return end;
    }
    std::uint32_t run_end = at, after_newline = 0;
    while (run_end < r.end()) {
      const Reader::Char s = r.at(run_end);
      if (!(s.bits & space)) break;
      run_end = s.next;
      if (s.code == '\r' || s.code == '\n') after_newline = run_end;
    }
    return after_newline ? after_newline : spaces(r, at, run_end);
  }

  unsigned digits_;
};

class DigitSplitter final : public PreTokenizer {
 public:
  explicit DigitSplitter(bool individual) : individual_(individual) {}
  void run(PreTokens& tokens) const override {
    tokens.cut([&](std::string_view text, PieceRange range, std::vector<PieceRange>& out) {
      const Reader r(text, range);
      for (std::uint32_t at = range.begin; at < range.end;) {
        const Reader::Char c = r.at(at);
        const bool digit = (c.bits & number) != 0;
        const std::uint32_t end = digit && individual_ ? c.next : r.run(c.next, number, digit);
        out.push_back({at, end});
        at = end;
      }
    });
  }

 private:
  bool individual_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_gpt2_splitter() { return std::make_unique<Gpt2Splitter>(); }
std::unique_ptr<PreTokenizer> make_llama3_splitter(unsigned digits) {
  return std::make_unique<Llama3Splitter>(digits);
}
std::unique_ptr<PreTokenizer> make_digit_splitter(bool individual) {
  return std::make_unique<DigitSplitter>(individual);
}

std::unique_ptr<PreTokenizer> find_word_splitter(std::string_view expression) {
  if (expression == R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)") {
    return make_gpt2_splitter();
  }
  constexpr std::string_view kHead = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  constexpr std::string_view kTail = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (expression.starts_with(kHead) && expression.ends_with(kTail) &&
      expression.size() > kHead.size() + kTail.size()) {
    expression.remove_prefix(kHead.size());
    expression.remove_suffix(kTail.size());
    if (expression == R"(\p{N})") return make_llama3_splitter(1);
    if (expression == R"(\p{N}{1,3})") return make_llama3_splitter(3);
  }
  return nullptr;
}

}  // namespace metal_candle
