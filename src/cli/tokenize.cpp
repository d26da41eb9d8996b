// The verb tokenize: lines of text to lines of ids, and back.
#include <algorithm>
#include <charconv>
#include <memory>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "metal_candle/tokenizer.h"
#include "tokenizer/unicode.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Lines end at \n only and are never trimmed. Each becomes one line of ids, separated by spaces. By default
BOS and EOS are added where the tokenizer's configuration says so, and special tokens written in the text
are recognised. A GGUF without tensors (a vocabulary) will do as model.

Examples:
  echo "Hello world" | metal-candle tokenize -m model.gguf
  echo "<|im_end|>" | metal-candle tokenize -m model.gguf --no-special    as plain text
  metal-candle tokenize -m model.gguf book.txt | metal-candle tokenize -m model.gguf --decode)";

struct Flags {
  ModelFlags model;
  std::string input;
  bool no_special = false, decode = false, strict_utf8 = false, json = false;
};

std::string where(const Flags& flags, std::size_t line) {
  return (flags.input.empty() || flags.input == "-" ? "standard input" : flags.input) + ", line " +
         std::to_string(line) + ": ";
}

std::vector<TokenId> parse_ids(std::string_view text, const Flags& flags, std::size_t line) {
  std::vector<TokenId> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  for (;;) {
    while (at != end && (*at == ' ' || *at == '\t' || *at == '\r')) ++at;
    if (at == end) return ids;
    const char* const stop = std::find_if(at, end, [](char c) { return c == ' ' || c == '\t' || c == '\r'; });
    TokenId id = 0;
    const auto parsed = std::from_chars(at, stop, id);
    if (parsed.ec != std::errc() || parsed.ptr != stop) {
      throw Error(ErrorCode::invalid_argument, where(flags, line) + "'" +
                                                   std::string(at, std::min<std::size_t>(stop - at, 40)) +
                                                   "' is not a token id; give integers separated by spaces");
    }
    ids.push_back(id);
    at = stop;
  }
}

/// What encode() puts around every text: BOS, EOS, CLS, SEP.
struct Frame {
  std::vector<TokenId> before, after;

  explicit Frame(const Tokenizer& tokenizer) {
    const std::vector<TokenId> bare = tokenizer.encode("a", {.add_special = false, .parse_special = true});
    const std::vector<TokenId> framed = tokenizer.encode("a", {});
    const auto middle = std::search(framed.begin(), framed.end(), bare.begin(), bare.end());
    if (middle == framed.end()) return;
    before.assign(framed.begin(), middle);
    after.assign(middle + static_cast<std::ptrdiff_t>(bare.size()), framed.end());
  }

  std::span<const TokenId> inside(std::span<const TokenId> ids) const {
    if (ids.size() >= before.size() && std::equal(before.begin(), before.end(), ids.begin())) {
      ids = ids.subspan(before.size());
    }
    if (ids.size() >= after.size() && std::equal(after.rbegin(), after.rend(), ids.rbegin())) {
      ids = ids.first(ids.size() - after.size());
    }
    return ids;
  }
};

std::string join(const std::vector<TokenId>& ids) {
  std::string out;
  for (const TokenId id : ids) out.append(out.empty() ? "" : " ").append(std::to_string(id));
  return out;
}

void encode(const Tokenizer& tokenizer, const Flags& flags) {
  const EncodeOptions options{.add_special = !flags.no_special, .parse_special = !flags.no_special};
  for_each_line(flags.input, [&](std::string_view text, std::size_t line) {
    if (flags.strict_utf8) {
      const std::size_t bad = find_invalid_utf8(text);
      if (bad != text.size()) {
        throw Error(ErrorCode::invalid_argument,
                    where(flags, line) + "byte " + std::to_string(bad) + " is not valid UTF-8");
      }
    }
    const std::vector<TokenId> ids = tokenizer.encode(text, options);
    if (!flags.json) return write_result(join(ids) + "\n");
    OrderedJson pieces = OrderedJson::array();
    for (const TokenId id : ids) pieces.push_back(tokenizer.piece(id));
    write_json_line({{"tokens", ids}, {"pieces", pieces}});
  });
}

void decode(const Tokenizer& tokenizer, const Flags& flags) {
  const Frame frame(tokenizer);
  for_each_line(flags.input, [&](std::string_view text, std::size_t line) {
    const std::vector<TokenId> ids = parse_ids(text, flags, line);
    const std::span<const TokenId> wanted =
        flags.no_special ? std::span<const TokenId>(ids) : frame.inside(ids);
    const std::string decoded = tokenizer.decode(wanted);
    if (!flags.json) return write_result(decoded + "\n");
    write_json_line({{"text", decoded}});
  });
}

void run(const Flags& flags) {
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(flags.model.model);
  if (flags.decode) return decode(*tokenizer, flags);
  encode(*tokenizer, flags);
}

}  // namespace

void add_tokenize(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("tokenize", "Turn lines of text into token ids, or back");
  app->footer(kFooter);
  app->add_option("FILE", flags->input, "Input (default: standard input)")->type_name("");
  app->add_flag("--decode", flags->decode,
                "The inverse: ids to text; drops the BOS and EOS that encoding adds");
  app->add_flag("--no-special", flags->no_special,
                "Add no BOS or EOS, and read special tokens in the text as text");
  app->add_flag("--strict-utf8", flags->strict_utf8, "Invalid bytes are an error instead of U+FFFD");
  app->add_flag("--json", flags->json, "One JSON object a line, with the vocabulary's pieces");
  flags->model.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
