#include "tokenizer/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "metal_candle/error.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

constexpr std::size_t kNone = std::string_view::npos;

/// Newlines as "\n", less the one that may end the template.
std::string normalize(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalize(source)), source_(text_) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const std::size_t tag = find_tag(at_);
      if (tag == kNone) {
        add_data(source_.substr(at_));
        at_ = source_.size();
        break;
      }
      const std::string_view before = source_.substr(at_, tag - at_);
      switch (source_[tag + 1]) {
        case '#': comment(before, tag); break;
        case '{': expression(before, tag, true); break;
        default:
          if (!raw(before, tag)) expression(before, tag, false);
      }
    }
    add(TokenType::end);
    return std::move(tokens_);
  }

 private:
  std::size_t find_tag(std::size_t from) const {
    for (std::size_t i = source_.find('{', from); i != kNone; i = source_.find('{', i + 1)) {
      if (i + 1 == source_.size()) break;
      const char next = source_[i + 1];
      if (next == '{' || next == '%' || next == '#') return i;
    }
    return kNone;
  }

  void add(TokenType type, std::string text = {}) { tokens_.push_back({type, std::move(text), 0, 0, line_}); }

  void add_data(std::string_view text) {
    if (!text.empty()) add(TokenType::data, std::string(text));
  }

  /// Moves to `to`, counting lines; the next text starts a line if the last byte passed ended one.
  void move_to(std::size_t to) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    line_starting_ = to > 0 && source_[to - 1] == '\n';
    at_ = to;
  }

  /// Emits the text before a tag, stripped as the sign in the tag and lstrip_blocks say.
  void add_before(std::string_view before, char sign, bool is_variable) {
    if (sign == '-') {
      before = text::strip_right(before);
    } else if (sign != '+' && !is_variable) {
      const std::size_t newline = before.rfind('\n');
      const std::size_t begin = newline == kNone ? 0 : newline + 1;
      const bool at_line_start = newline != kNone || line_starting_;
      if (at_line_start && text::strip_left(before.substr(begin)).empty()) before = before.substr(0, begin);
    }
    add_data(before);
  }

  char sign_at(std::size_t i) const {
    return i < source_.size() && (source_[i] == '-' || source_[i] == '+') ? source_[i] : '\0';
  }

  std::size_t skip_space(std::size_t i) const {
    return source_.size() - text::strip_left(source_.substr(i)).size();
  }

  bool has(std::size_t i, std::string_view what) const {
    return source_.substr(std::min(i, source_.size()), what.size()) == what;
  }

  /// Where the text goes on after the end mark `end` ("%}", "#}") at `i` with its sign and trimmed newline;
  /// kNone if there is none.
  std::size_t tag_end(std::size_t i, std::string_view end) const {
    if (sign_at(i) == '-' && has(i + 1, end)) return skip_space(i + 3);
    if (sign_at(i) == '+' && has(i + 1, end)) return i + 3;
    if (!has(i, end)) return kNone;
    return has(i + 2, "\n") ? i + 3 : i + 2;
  }

  void comment(std::string_view before, std::size_t tag) {
    const char sign = sign_at(tag + 2);
    add_before(before, sign, false);
    const std::size_t body = tag + 2 + (sign != 0 ? 1 : 0);
    const std::size_t close = source_.find("#}", body);
    if (close == kNone) {
      move_to(tag);
      fail_syntax(line_, "missing end of comment tag");
    }
    const bool has_sign = close > body && sign_at(close - 1) != 0;
    move_to(tag_end(has_sign ? close - 1 : close, "#}"));
  }

  /// The name `word` inside a block tag from `i`; where it ends, or kNone.
  std::size_t word_at(std::size_t i, std::string_view word) const {
    i = skip_space(i);
    return has(i, word) ? skip_space(i + word.size()) : kNone;
  }

  bool raw(std::string_view before, std::size_t tag) {
    const char sign = sign_at(tag + 2);
    const std::size_t close = word_at(tag + 2 + (sign != 0 ? 1 : 0), "raw");
    if (close == kNone) return false;
    std::size_t body = close + 2;
    if (has(close, "-%}")) {
      body = skip_space(close + 3);
    } else if (!has(close, "%}")) {
      return false;
    }
    add_before(before, sign, false);
    move_to(body);
    for (std::size_t end = source_.find("{%", body); end != kNone; end = source_.find("{%", end + 1)) {
      const char end_sign = sign_at(end + 2);
      const std::size_t mark = word_at(end + 2 + (end_sign != 0 ? 1 : 0), "endraw");
      const std::size_t after = mark == kNone ? kNone : tag_end(mark, "%}");
      if (after == kNone) continue;
      add_before(source_.substr(body, end - body), end_sign, false);
      move_to(after);
      return true;
    }
    fail_syntax(line_, "missing end of raw directive");
  }

  void expression(std::string_view before, std::size_t tag, bool is_variable) {
    const char sign = sign_at(tag + 2);
    add_before(before, sign, is_variable);
    move_to(tag);
    add(is_variable ? TokenType::variable_begin : TokenType::block_begin);
    move_to(tag + 2 + (sign != 0 ? 1 : 0));
    std::string open;  // closing brackets still expected
    for (;;) {
      move_to(skip_space(at_));
      if (at_ == source_.size()) fail_syntax(line_, "the template ends inside a tag");
      if (open.empty()) {
        const std::size_t end = is_variable ? variable_end(at_) : tag_end(at_, "%}");
        if (end != kNone) {
          add(is_variable ? TokenType::variable_end : TokenType::block_end);
          move_to(end);
          return;
        }
      }
      const char c = source_[at_];
      if (c == '"' || c == '\'') {
        string(c);
      } else if (c >= '0' && c <= '9') {
        number();
      } else if (text::is_name(text::decode(source_, at_).value)) {
        name();
      } else {
        symbol(open);
      }
    }
  }

  std::size_t variable_end(std::size_t i) const {
    if (has(i, "-}}")) return skip_space(i + 3);
    return has(i, "}}") ? i + 2 : kNone;
  }

  void name() {
    std::size_t end = at_;
    while (end < source_.size()) {
      const text::Point p = text::decode(source_, end);
      if (!text::is_name(p.value)) break;
      end += p.size;
    }
    add(TokenType::name, std::string(source_.substr(at_, end - at_)));
    move_to(end);
  }

  void symbol(std::string& open) {
    static constexpr std::array<std::string_view, 6> kPairs = {"//", "**", "==", "!=", ">=", "<="};
    static constexpr std::string_view kSingles = "+-/*%~[](){}><=.:|,;";
    std::string_view found;
    for (const std::string_view pair : kPairs) {
      if (has(at_, pair)) found = pair;
    }
    if (found.empty() && kSingles.find(source_[at_]) != kNone) found = source_.substr(at_, 1);
    if (found.empty()) {
      fail_syntax(line_, "unexpected character '" +
                             std::string(source_.substr(at_, text::decode(source_, at_).size)) + "'");
    }
    if (found == "(") open += ')';
    if (found == "[") open += ']';
    if (found == "{") open += '}';
    if (found == ")" || found == "]" || found == "}") {
      if (open.empty() || open.back() != found[0])
        fail_syntax(line_, "unexpected '" + std::string(found) + "'");
      open.pop_back();
    }
    add(TokenType::symbol, std::string(found));
    move_to(at_ + found.size());
  }

  /// End of a run of digits of `base` at `i`, single underscores between them allowed.
  std::size_t digits_end(std::size_t i, int base) const {
    const auto is_digit = [&](std::size_t k) {
      if (k >= source_.size()) return false;
      const char c = source_[k];
      const int value = c >= '0' && c <= '9'                 ? c - '0'
                        : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                             : 99;
      return value < base;
    };
    while (is_digit(i) || (has(i, "_") && is_digit(i + 1))) ++i;
    return i;
  }

  void number() {
    const bool after_dot = at_ > 0 && source_[at_ - 1] == '.';
    const std::size_t whole = digits_end(at_, 10);
    std::size_t end = whole;
    if (!after_dot) {
      if (has(end, ".") && digits_end(end + 1, 10) > end + 1 && source_[end + 1] != '_')
        end = digits_end(end + 1, 10);
      std::size_t exponent = end;
      if (has(exponent, "e") || has(exponent, "E")) {
        exponent += has(exponent + 1, "+") || has(exponent + 1, "-") ? 2 : 1;
        if (digits_end(exponent, 10) > exponent && source_[exponent] != '_') end = digits_end(exponent, 10);
      }
    }
    if (end != whole) return add_number(end, 0);
    const char marker =
        source_[at_] == '0' && at_ + 1 < source_.size() ? static_cast<char>(source_[at_ + 1] | 32) : '\0';
    const int base = marker == 'x' ? 16 : marker == 'o' ? 8 : marker == 'b' ? 2 : 10;
    if (base != 10 && digits_end(at_ + 2, base) > at_ + 2) return add_number(digits_end(at_ + 2, base), base);
    if (source_[at_] != '0') return add_number(whole, 10);
    std::size_t zeros = at_ + 1;
    while (has(zeros, "0") || has(zeros, "_0")) ++zeros;
    add_number(zeros, 10);
  }

  /// The literal up to `end`; base 0: a float.
  void add_number(std::size_t end, int base) {
    std::string digits;
    for (const char c : source_.substr(at_, end - at_)) {
      if (c != '_') digits += c;
    }
    add(base == 0 ? TokenType::floating : TokenType::integer);
    const char* first = digits.data() + (base == 0 || base == 10 ? 0 : 2);
    const char* last = digits.data() + digits.size();
    Token& token = tokens_.back();
    const auto result = base == 0 ? std::from_chars(first, last, token.floating)
                                  : std::from_chars(first, last, token.integer, base);
    if (result.ec != std::errc()) fail_unsupported_syntax(line_, "the number " + digits + " is out of range");
    move_to(end);
  }

  void string(char quote) {
    std::size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail_syntax(line_, "a string has no end");
    add(TokenType::string, unescape(source_.substr(at_ + 1, end - at_ - 1)));
    move_to(end + 1);
  }

  std::string unescape(std::string_view s) const {
    std::string out;
    for (std::size_t i = 0; i < s.size();) {
      if (s[i] != '\\') {
        out += s[i++];
        continue;
      }
      const char c = s[i + 1];  // a backslash never ends a string
      static constexpr std::string_view kFrom = "\\'\"abfnrtv\n", kTo = "\\'\"\a\b\f\n\r\t\v";
      const std::size_t simple = kFrom.find(c);
      if (simple != kNone) {
        if (c != '\n') out += kTo[simple];
        i += 2;
      } else if (c >= '0' && c <= '7') {
        unsigned point = 0;
        std::size_t k = i + 1;
        for (; k < s.size() && k < i + 4 && s[k] >= '0' && s[k] <= '7'; ++k)
          point = point * 8 + static_cast<unsigned>(s[k] - '0');
        text::append(out, point);
        i = k;
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const std::size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        out += code_point(s.substr(i + 2, count), count);
        i += 2 + count;
      } else if (c == 'N') {
        fail_unsupported_syntax(line_, "\\N{...} in a string");
      } else {
        out += '\\';
        ++i;
      }
    }
    return out;
  }

  std::string code_point(std::string_view hex, std::size_t count) const {
    unsigned point = 0;
    const auto result = std::from_chars(hex.data(), hex.data() + hex.size(), point, 16);
    if (hex.size() != count || result.ec != std::errc() || result.ptr != hex.data() + count ||
        point > 0x10FFFF) {
      fail_syntax(line_, "a truncated or illegal escape in a string");
    }
    if (point >= 0xD800 && point <= 0xDFFF) fail_unsupported_syntax(line_, "a lone surrogate in a string");
    std::string out;
    text::append(out, point);
    return out;
  }

  const std::string text_;
  const std::string_view source_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::string one_line(std::string message) {
  constexpr std::size_t kLongest = 2000;
  message.resize(std::min(message.size(), kLongest));
  std::replace_if(
      message.begin(), message.end(), [](char c) { return c == '\n' || c == '\r' || c == '\0'; }, ' ');
  return message;
}

void fail_syntax(int line, const std::string& message) {
  throw Error(ErrorCode::malformed_file,
              "chat template, line " + std::to_string(line) + ": " + one_line(message));
}

void fail_unsupported_syntax(int line, const std::string& message) {
  throw Error(ErrorCode::unsupported,
              "chat template, line " + std::to_string(line) + ": " + one_line(message) + " is not supported");
}

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace metal_candle::jinja
