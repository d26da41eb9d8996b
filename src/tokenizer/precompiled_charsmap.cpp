#include "tokenizer/precompiled_charsmap.h"

#include <utf8proc.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/error.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

[[noreturn]] void malformed(const char* what) {
  throw Error(ErrorCode::malformed_file, std::string("tokenizer: precompiled_charsmap ") + what);
}

class PrecompiledNormalizer final : public Normalizer {
 public:
  explicit PrecompiledNormalizer(std::string_view charsmap) {
    std::uint32_t trie_bytes = 0;
    if (charsmap.size() < 4) malformed("is shorter than its header");
    std::memcpy(&trie_bytes, charsmap.data(), 4);
    if (trie_bytes < 4 || trie_bytes > charsmap.size() - 4) malformed("has a trie that does not fit");
    units_.resize(trie_bytes / 4);
    std::memcpy(units_.data(), charsmap.data() + 4, units_.size() * 4);
    replacements_ = charsmap.substr(4 + units_.size() * 4);
    if (find_invalid_utf8(replacements_) != replacements_.size())
      malformed("has replacements that are not UTF-8");
  }

  std::string normalize(std::string text) const override {
    std::string out;
    out.reserve(text.size() + 8);
    for (std::size_t at = 0; at < text.size();) {
      check_growth(text.size(), out.size());
      const std::size_t end = grapheme_end(text, at);
      const std::string_view grapheme = std::string_view(text).substr(at, end - at);
      at = end;
      if (grapheme.size() < 6) {
        if (const auto replaced = find(grapheme)) {
          out += *replaced;
          continue;
        }
      }
      for (std::size_t i = 0; i < grapheme.size();) {
        const std::string_view character = grapheme.substr(i, read_utf8(grapheme, i).length);
        out += find(character).value_or(character);
        i += character.size();
      }
    }
    return out;
  }

 private:
  static std::size_t grapheme_end(std::string_view text, std::size_t at) {
    Utf8Char c = read_utf8(text, at);
    utf8proc_int32_t state = 0;
    std::size_t end = at + c.length;
    while (end < text.size()) {
      // Between two ASCII characters there is always a border, but for CR LF.
      const auto next_byte = static_cast<unsigned char>(text[end]);
      if (c.code < 0x80 && next_byte < 0x80 && !(c.code == '\r' && next_byte == '\n')) break;
      const Utf8Char next = read_utf8(text, end);
      if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code),
                                           static_cast<utf8proc_int32_t>(next.code), &state)) {
        break;
      }
      end += next.length;
      c = next;
    }
    return end;
  }

  std::optional<std::uint32_t> unit(std::size_t at) const {
    return at < units_.size() ? std::optional(units_[at]) : std::nullopt;
  }

  /// The replacement of the shortest rule that `key` starts with.
  std::optional<std::string_view> find(std::string_view key) const {
    const auto offset = [](std::uint32_t u) {
      return static_cast<std::size_t>(u >> 10) << ((u & (1u << 9)) >> 6);
    };
    std::size_t at = offset(units_[0]);
    for (const char c : key) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte == 0) break;
      at ^= byte;
      const auto u = unit(at);
      if (!u || (*u & (1u << 31 | 0xFF)) != byte) return std::nullopt;
      at ^= offset(*u);
      if (*u >> 8 & 1) {
        const auto leaf = unit(at);
        if (!leaf) return std::nullopt;
        const std::size_t begin = *leaf & 0x7FFFFFFF;
        if (begin > replacements_.size()) return std::nullopt;
        const std::string_view rest = std::string_view(replacements_).substr(begin);
        const std::string_view text = rest.substr(0, rest.find('\0'));
        // A value may point into a character; such a rule does not exist.
        return find_invalid_utf8(text) == text.size() ? std::optional(text) : std::nullopt;
      }
    }
    return std::nullopt;
  }

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled_normalizer(std::string_view charsmap) {
  return std::make_unique<PrecompiledNormalizer>(charsmap);
}

std::unique_ptr<Normalizer> make_precompiled_normalizer_base64(std::string_view base64) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<int, 256> value;
  value.fill(-1);
  for (std::size_t i = 0; i < kDigits.size(); ++i)
    value[static_cast<unsigned char>(kDigits[i])] = static_cast<int>(i);
  while (!base64.empty() && base64.back() == '=') base64.remove_suffix(1);
  std::string bytes;
  bytes.reserve(base64.size() / 4 * 3 + 3);
  std::uint32_t held = 0;
  int bits = 0;
  for (const char c : base64) {
    const int digit = value[static_cast<unsigned char>(c)];
    if (digit < 0) malformed("is not base64");
    held = held << 6 | static_cast<std::uint32_t>(digit);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<char>(held >> bits & 0xFF));
  }
  return make_precompiled_normalizer(bytes);
}

}  // namespace metal_candle
