// tokenizer.json on any bytes, and what it accepts on any text: "JSON, a line of three dashes, text".
// Accepted tokenizers give ids inside their vocabulary, and streaming gives valid UTF-8.
#include <algorithm>
#include <string>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "tokenizer/tokenizer_json.h"
#include "tokenizer/unicode.h"

using namespace metal_candle;

namespace {

void use(const Tokenizer& tokenizer, std::string_view text, const EncodeOptions& options) {
  fuzz::expect_value_or_error([&] {
    const std::vector<TokenId> ids = tokenizer.encode(text, options);
    for (const TokenId id : ids) {
      if (id < 0 || static_cast<std::size_t>(id) >= tokenizer.vocab_size()) std::abort();
    }
    const auto decoder = tokenizer.make_decoder(options.parse_special);
    std::string streamed;
    for (const TokenId id : ids) streamed += decoder->push(id);
    streamed += decoder->flush();
    if (find_invalid_utf8(streamed) != streamed.size()) std::abort();
    fuzz::touch(tokenizer.decode(ids));
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kBorder = "\n---\n";
  const std::size_t border = std::min(all.find(kBorder), all.size());
  const std::string_view text = all.substr(std::min(border + kBorder.size(), all.size()));
  fuzz::expect_value_or_error([&] {
    const auto tokenizer = make_tokenizer(TokenizerJson{.json = all.substr(0, border)});
    use(*tokenizer, text, {});
    use(*tokenizer, text, {.add_special = false, .parse_special = false});
    use(*tokenizer, "<s> Hello\n\n w\xC3\xB6rld 12345 \xF0\x9F\x98\x80\xFF</s>", {});
  });
  return 0;
}
