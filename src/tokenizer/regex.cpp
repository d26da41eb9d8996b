#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "tokenizer/fail.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

[[noreturn]] void refuse(const std::string& expression, const std::string& why) {
  fail_tokenizer(ErrorCode::unsupported,
                 "tokenizer: the regular expression '" + expression.substr(0, 200) + "' " + why);
}

/// Unicode's White_Space, which \s means in Oniguruma; PCRE2's \s has U+180E too.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{d} \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

/// Oniguruma's \w: PCRE2's lacks marks and connectors.
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";

/// Rewrites \s \S \w \W \b \B, and refuses set operations, which PCRE2 would read as literal characters.
std::string translate(const std::string& expression) {
  std::string out;
  bool in_class = false;
  std::size_t class_start = 0;  // first place in a class where ']' is not literal
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char escaped = expression[++i];
      const std::string_view members = escaped == 's' || escaped == 'S' ? kSpaces : kWord;
      if (escaped == 's' || escaped == 'w') {
        out.append(in_class ? "" : "[").append(members).append(in_class ? "" : "]");
      } else if (escaped == 'S' || escaped == 'W') {
        if (in_class) refuse(expression, "has a negated class in a set");
        out.append("[^").append(members).append("]");
      } else if ((escaped == 'b' || escaped == 'B') && !in_class) {
        const std::string word = std::string("[").append(kWord).append("]");
        const bool border = escaped == 'b';
        out.append("(?:(?<=").append(word).append(border ? ")(?!" : ")(?=").append(word).append(")|(?<!");
        out.append(word).append(border ? ")(?=" : ")(?!").append(word).append("))");
      } else if (escaped == 'h' || escaped == 'H') {
        refuse(expression, "uses \\h, which differs between engines");
      } else {
        (out += c) += escaped;
      }
      continue;
    }
    if (in_class) {
      if (c == '&' && i + 1 < expression.size() && expression[i + 1] == '&') {
        refuse(expression, "intersects character sets (&&)");
      }
      if (c == '[' && i + 1 < expression.size() && expression[i + 1] != ':') {
        refuse(expression, "nests character sets");
      }
      if (c == ']' && i >= class_start) in_class = false;
      if (c == '[') {  // [:name:], up to its own bracket
        const std::size_t close = expression.find(":]", i);
        if (close == std::string::npos) refuse(expression, "has an open [: in a set");
        out += expression.substr(i, close + 2 - i);
        i = close + 1;
        continue;
      }
    } else if (c == '[') {
      in_class = true;
      class_start = i + 1 + (i + 1 < expression.size() && expression[i + 1] == '^');
      if (class_start < expression.size() && expression[class_start] == ']') ++class_start;
    }
    out += c;
  }
  return out;
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  std::string expression;
  ~Code() {
    pcre2_code_free(code);
    pcre2_match_context_free(context);
  }
};

Regex::Regex(const std::string& expression, std::uint32_t steps) : code_(std::make_unique<Code>()) {
  if (find_invalid_utf8(expression) != expression.size())
    refuse(replace_invalid_utf8(expression), "is not UTF-8");
  if (expression.size() > 1 << 16) refuse(expression, "is longer than 64 KiB");
  const std::string translated = translate(expression);
  code_->expression = expression;
  int error = 0;
  PCRE2_SIZE at = 0;
  // Ruby's ^ and $ stand at line ends, hence MULTILINE.
  code_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!code_->code) {
    char message[128] = {};
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof message);
    refuse(expression, std::string("cannot be compiled: ") + message);
  }
  pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter runs
  code_->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code_->context, steps);
  pcre2_set_heap_limit(code_->context, 64 * 1024);  // KiB
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;

struct Regex::Search::State {
  const Code& code;
  std::string_view text;
  pcre2_match_data* data;
  std::size_t from = 0;
};

Regex::Search::Search(const Regex& regex, std::string_view text)
    : state_(new State{*regex.code_, text, pcre2_match_data_create(1, nullptr)}) {}

Regex::Search::~Search() { pcre2_match_data_free(state_->data); }

bool Regex::Search::next() {
  State& s = *state_;
  while (s.from <= s.text.size()) {
    const auto match = [&](std::uint32_t options) {
      return pcre2_match(s.code.code, reinterpret_cast<PCRE2_SPTR>(s.text.data()), s.text.size(), s.from,
                         PCRE2_NO_UTF_CHECK | options, s.data, s.code.context);
    };
    int found = match(0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);  // the interpreter's stack grows
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) refuse(s.code.expression, "gave up on a text (PCRE2 error " + std::to_string(found) + ")");
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(s.data);
    begin_ = range[0];
    end_ = range[1];
    if (begin_ < end_) {
      s.from = end_;
      return true;
    }
    s.from = end_ < s.text.size() ? end_ + read_utf8(s.text, end_).length : end_ + 1;
  }
  s.from = s.text.size() + 1;
  return false;
}

std::string escape_regex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c < 0;
    if (!plain) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace metal_candle
