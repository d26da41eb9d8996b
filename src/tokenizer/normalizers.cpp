#include "tokenizer/normalizers.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>

#include "metal_candle/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/old_classes.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace metal_candle {

void check_growth(std::size_t before, std::size_t after) {
  if (after / 64 > before + 16384) {
    throw Error(ErrorCode::malformed_file, "tokenizer: its rules make the text more than 64 times longer");
  }
}

namespace {

/// A normalizer made of a function from text to text.
template <typename F>
class FunctionNormalizer final : public Normalizer {
 public:
  explicit FunctionNormalizer(F function) : function_(std::move(function)) {}
  std::string normalize(std::string text) const override { return function_(std::move(text)); }

 private:
  F function_;
};

template <typename F>
std::unique_ptr<Normalizer> normalizer(F function) {
  return std::make_unique<FunctionNormalizer<F>>(std::move(function));
}

/// Builds a text from what visit(code, out) appends for each character.
template <typename Visit>
std::string map_characters(std::string_view text, const Visit& visit) {
  std::string out;
  out.reserve(text.size() + 8);
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = read_utf8(text, at);
    visit(c.code, out);
    at += c.length;
  }
  return out;
}

/// No character of the text changes under any form or combines with another: all are below U+0080,
/// or for NFC (where Latin-1 is stable too) below U+0300.
bool already_normal(std::string_view text, bool nfc) {
  return std::all_of(text.begin(), text.end(), [nfc](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x80 || (nfc && byte < 0xCC);
  });
}

/// Appends `text` in a normal form as the system's utf8proc knows it.
void append_form(std::string_view text, UnicodeForm form, std::string& out) {
  if (already_normal(text, form == UnicodeForm::nfc)) {
    out += text;
    return;
  }
  const bool compose = form == UnicodeForm::nfc || form == UnicodeForm::nfkc;
  const bool compatible = form == UnicodeForm::nfkc || form == UnicodeForm::nfkd;
  const auto options =  // flags, of which a sum is no enumerator: NOLINTNEXTLINE(*EnumCastOutOfRange)
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                     (compatible ? UTF8PROC_COMPAT : 0));
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &result, options);
  if (size < 0) {
    throw Error(size == UTF8PROC_ERROR_NOMEM ? ErrorCode::out_of_memory : ErrorCode::invalid_argument,
                std::string("tokenizer: Unicode normalisation failed: ") + utf8proc_errmsg(size));
  }
  out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(size));
  std::free(result);
}

/// utf8proc sees only the stretches between characters that no form of Unicode 9.0 touches, whatever the
/// version it knows.
std::string unicode_form(std::string text, UnicodeForm form) {
  if (already_normal(text, form == UnicodeForm::nfc)) return text;
  constexpr char32_t kFirstNew = 0x600;  // no character below it is younger: one stretch
  const OldCharClasses old;
  std::string out;
  out.reserve(text.size() + text.size() / 8 + 8);
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = read_utf8(text, at);
    at += c.length;
    if (c.code < kFirstNew || !(old(c.code) & old_class_bits::inert)) continue;
    const std::string_view stretch(text.data() + done, at - c.length - done);
    append_form(stretch, form, out);
    out.append(text, at - c.length, c.length);
    done = at;
  }
  append_form(std::string_view(text).substr(done), form, out);
  return out;
}

/// Capitals that Unicode 15.0 to 17.0 added: utf8proc may not know them yet.
char32_t new_lowercase(char32_t code) {
  if (code == 0x1C89 || code == 0xA7CC || code == 0xA7CE || code == 0xA7D2 || code == 0xA7D4 ||
      code == 0xA7DA)
    return code + 1;
  if (code == 0xA7CB) return 0x264;
  if (code == 0xA7DC) return 0x19B;
  if (code >= 0x10D50 && code <= 0x10D65) return code + 0x20;
  if (code >= 0x16EA0 && code <= 0x16EB8) return code + 0x1B;
  return 0;
}

void append_lowercase(char32_t code, std::string& out) {
  if (code == 0x130) {  // the one character whose lower case is two
    out += "i\xCC\x87";
    return;
  }
  if (code >= 0x1C89) {
    if (const char32_t lower = new_lowercase(code)) return append_utf8(lower, out);
  }
  append_utf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
}

std::string lowercase(std::string_view text) { return map_characters(text, append_lowercase); }

bool is_cjk_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string bert(std::string text, const BertNormalizerOptions& options) {
  const CharClasses classes;
  const OldCharClasses old;
  if (options.clean_text || options.handle_chinese_chars) {
    text = map_characters(text, [&](char32_t c, std::string& out) {
      if (options.clean_text) {
        const bool kept = c == '\t' || c == '\n' || c == '\r';
        if (c == 0 || c == kReplacement || (!kept && (old(c) & old_class_bits::other))) return;
        if (classes(c) & char_class_bits::space) c = ' ';
      }
      const bool apart = options.handle_chinese_chars && is_cjk_ideograph(c);
      if (apart) out += ' ';
      append_utf8(c, out);
      if (apart) out += ' ';
    });
  }
  if (options.strip_accents) {
    text = unicode_form(std::move(text), UnicodeForm::nfd);
    if (!already_normal(text, false)) {
      text = map_characters(text, [&](char32_t c, std::string& out) {
        if (!(old(c) & old_class_bits::nonspacing)) append_utf8(c, out);
      });
    }
  }
  if (options.lowercase) text = lowercase(text);
  return text;
}

std::string strip(const std::string& text, bool left, bool right) {
  const CharClasses classes;
  std::size_t first = text.size(), last = 0;  // the stretch between white space
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Char c = read_utf8(text, at);
    if (!(classes(c.code) & char_class_bits::space)) {
      first = std::min(first, at);
      last = at + c.length;
    }
    at += c.length;
  }
  if (first == text.size()) return left || right ? std::string() : text;
  if (!left) first = 0;
  if (!right) last = text.size();
  return text.substr(first, last - first);
}

std::string nmt(std::string_view text) {
  return map_characters(text, [](char32_t c, std::string& out) {
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
      return;
    const bool space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                       (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
                       c == 0xFEFF || c == kReplacement;
    append_utf8(space ? U' ' : c, out);
  });
}

}  // namespace

std::unique_ptr<Normalizer> make_unicode_normalizer(UnicodeForm form) {
  return normalizer([form](std::string text) { return unicode_form(std::move(text), form); });
}
std::unique_ptr<Normalizer> make_lowercase_normalizer() {
  return normalizer([](std::string text) { return lowercase(text); });
}
std::unique_ptr<Normalizer> make_strip_accents_normalizer() {
  return normalizer([](std::string text) {
    const OldCharClasses old;
    return map_characters(text, [&](char32_t c, std::string& out) {
      if (!(old(c) & old_class_bits::mark)) append_utf8(c, out);
    });
  });
}
std::unique_ptr<Normalizer> make_strip_normalizer(bool left, bool right) {
  return normalizer([left, right](std::string text) { return strip(text, left, right); });
}
std::unique_ptr<Normalizer> make_prepend_normalizer(std::string prefix) {
  return normalizer([prefix = std::move(prefix)](std::string text) {
    return text.empty() ? std::move(text) : std::move(text.insert(0, prefix));
  });
}
std::unique_ptr<Normalizer> make_replace_normalizer(std::string from, std::string to) {
  return normalizer([from = std::move(from), to = std::move(to)](std::string text) {
    std::size_t at = text.find(from);
    if (at == std::string::npos) return text;
    std::string out;
    std::size_t done = 0;
    for (; at != std::string::npos; at = text.find(from, done)) {
      out.append(text, done, at - done).append(to);
      check_growth(text.size(), out.size());
      done = at + from.size();
    }
    return out.append(text, done);
  });
}
std::unique_ptr<Normalizer> make_regex_replace_normalizer(const std::string& expression, std::string to) {
  return normalizer([regex = Regex(expression), to = std::move(to)](std::string text) {
    std::string out;
    std::size_t done = 0;
    for (Regex::Search search(regex, text); search.next(); done = search.end()) {
      out.append(text, done, search.begin() - done).append(to);
      check_growth(text.size(), out.size());
    }
    return done == 0 ? text : out.append(text, done);
  });
}
std::unique_ptr<Normalizer> make_nmt_normalizer() {
  return normalizer([](std::string text) { return nmt(text); });
}
std::unique_ptr<Normalizer> make_byte_level_normalizer() {
  return normalizer([](std::string text) {
    std::string out;
    append_byte_level(text, out);
    return out;
  });
}
std::unique_ptr<Normalizer> make_bert_normalizer(BertNormalizerOptions options) {
  return normalizer([options](std::string text) { return bert(std::move(text), options); });
}

}  // namespace metal_candle
