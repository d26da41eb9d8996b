#include "tokenizer/gguf_vocab.h"

#include <algorithm>
#include <string>

#include "metal_candle/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/normalizers.h"
#include "tokenizer/pipeline_tokenizer.h"
#include "tokenizer/split_stages.h"
#include "tokenizer/word_splitters.h"

namespace metal_candle {
namespace {

/// Values of tokenizer.ggml.token_type.
enum GgufTokenType : std::int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

[[noreturn]] void malformed(const std::string& what) {
  throw Error(ErrorCode::malformed_file, "GGUF tokenizer: " + what);
}

void check(const GgufVocab& vocab) {
  const std::size_t count = vocab.tokens.size();
  if (count == 0) malformed("tokenizer.ggml.tokens is missing or empty");
  const auto same_count = [&](std::size_t size, const char* key) {
    if (size != 0 && size != count) {
      malformed(std::string(key) + " has " + std::to_string(size) + " entries for " + std::to_string(count) +
                " tokens");
    }
  };
  same_count(vocab.types.size(), "tokenizer.ggml.token_type");
  same_count(vocab.scores.size(), "tokenizer.ggml.scores");
  const auto in_range = [&](std::optional<TokenId> id, const char* key) {
    if (id && (*id < 0 || static_cast<std::size_t>(*id) >= count)) {
      malformed(std::string(key) + " is " + std::to_string(*id) + ", outside the " + std::to_string(count) +
                " tokens");
    }
  };
  in_range(vocab.bos, "tokenizer.ggml.bos_token_id");
  in_range(vocab.eos, "tokenizer.ggml.eos_token_id");
  in_range(vocab.unknown, "tokenizer.ggml.unknown_token_id");
  in_range(vocab.separator, "tokenizer.ggml.seperator_token_id");
  in_range(vocab.padding, "tokenizer.ggml.padding_token_id");
  in_range(vocab.cls, "tokenizer.ggml.cls_token_id");
  in_range(vocab.eot, "tokenizer.ggml.eot_token_id");
  in_range(vocab.eom, "tokenizer.ggml.eom_token_id");
}

/// What tokenizer.ggml.pre stands for: the components of the family's own tokenizer.json.
struct PreTokenizerSpec {
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  bool byte_level = true;  ///< The model writes the byte-level alphabet, not a stage.
  bool nfc = false;
  bool ignore_merges = false;
  bool add_bos = false;
};

void isolate(PreTokenizerSpec& spec, const std::string& expression) {
  spec.stages.push_back(make_regex_splitter(expression, SplitBehavior::isolated, false));
}

/// The letters of DeepSeek LLM: those with case, as its tokenizer.json lists them.
constexpr const char* kDeepseekWord =
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1})"
    R"(\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5})"
    R"(\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77})"
    R"(\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d})"
    R"(\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc})"
    R"(\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec})"
    R"(\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d})"
    R"(\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f})"
    R"(\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee})"
    R"(\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787})"
    R"(\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a})"
    R"(\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2})"
    R"(\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+)";
constexpr const char* kCjkRun = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";

PreTokenizerSpec pre_tokenizer(std::string_view pre) {
  PreTokenizerSpec spec;
  if (pre == "gpt-2" || pre == "mpt") {
    spec.stages.push_back(make_gpt2_splitter());
    spec.nfc = pre == "mpt";
  } else if (pre == "smollm" || pre == "starcoder" || pre == "refact" || pre == "command-r") {
    spec.stages.push_back(make_digit_splitter(true));
    spec.stages.push_back(make_gpt2_splitter());
    spec.nfc = pre == "command-r";
  } else if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    spec.stages.push_back(make_llama3_splitter(3));
    spec.ignore_merges = spec.add_bos = true;
  } else if (pre == "qwen2") {
    spec.stages.push_back(make_llama3_splitter(1));
    spec.nfc = true;
  } else if (pre == "deepseek-llm") {
    isolate(spec, R"([\r\n])");
    isolate(spec, kDeepseekWord);
    isolate(spec, R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)");
    isolate(spec, R"(\s+$)");
    isolate(spec, kCjkRun);
    isolate(spec, R"(\p{N}+)");
  } else if (pre == "deepseek-coder") {
    isolate(spec, R"([\r\n])");
    isolate(spec, R"(\s?\p{L}+)");
    isolate(spec, R"(\s?\p{P}+)");
    isolate(spec, kCjkRun);
    spec.stages.push_back(make_digit_splitter(true));
  } else if (pre == "falcon") {
    spec.stages.push_back(make_punctuation_splitter(SplitBehavior::contiguous));
    spec.stages.push_back(make_gpt2_splitter());
    // Falcon looks for digits in the byte-level spelling, where some bytes of other characters read as
    // superscripts and fractions.
    spec.stages.push_back(make_byte_level_writer());
    spec.stages.push_back(make_digit_splitter(false));
    isolate(spec, "[0-9][0-9][0-9]");
    spec.byte_level = false;
  } else {
    throw Error(
        ErrorCode::unsupported,
        "GGUF tokenizer: unknown pre-tokenizer '" + std::string(pre.substr(0, 80)) +
            "' (tokenizer.ggml.pre); known: gpt-2, mpt, smollm, starcoder, refact, command-r, llama-bpe, "
            "qwen2, deepseek-llm, deepseek-coder, falcon");
  }
  return spec;
}

std::vector<BpeMerge> read_merges(const GgufVocab& vocab, const Vocabulary& pieces) {
  std::vector<BpeMerge> merges;
  merges.reserve(vocab.merges.size());
  for (const std::string_view line : vocab.merges) {
    const std::size_t space = line.find(' ', 1);  // a piece may itself start with a space
    std::optional<BpeMerge> merge;
    if (space != std::string_view::npos)
      merge = find_merge(pieces, line.substr(0, space), line.substr(space + 1));
    if (!merge) {
      malformed("merge " + std::to_string(merges.size()) + " ('" + std::string(line.substr(0, 80)) +
                "') is not two known tokens that join to a third");
    }
    merges.push_back(*merge);
  }
  return merges;
}

/// Control and user-defined tokens: those that are looked for in the text.
std::vector<AddedToken> added_tokens(const GgufVocab& vocab) {
  std::vector<AddedToken> added;
  for (std::size_t i = 0; i < vocab.types.size(); ++i) {
    if (vocab.types[i] != control && vocab.types[i] != user_defined) continue;
    added.push_back({.content = std::string(vocab.tokens[i]),
                     .id = static_cast<TokenId>(i),
                     .special = vocab.types[i] == control});
  }
  return added;
}

/// A decoder of one step.
PieceDecoder decoder_of(std::unique_ptr<DecodeStep> step) {
  std::vector<std::unique_ptr<DecodeStep>> steps;
  steps.push_back(std::move(step));
  return PieceDecoder(std::move(steps));
}

std::unique_ptr<Tokenizer> make_byte_level_bpe(const GgufVocab& vocab) {
  TokenizerParts parts;
  auto pre = pre_tokenizer(vocab.pre);
  parts.vocabulary = std::make_shared<Vocabulary>(vocab.tokens);
  const auto merges = read_merges(vocab, *parts.vocabulary);
  parts.model = std::make_unique<Bpe>(
      parts.vocabulary, merges, BpeOptions{.byte_level = pre.byte_level, .ignore_merges = pre.ignore_merges});
  parts.pre_tokenizer = std::make_unique<PreTokenizerSequence>(std::move(pre.stages));
  if (pre.nfc) parts.normalizer = make_unicode_normalizer(UnicodeForm::nfc);
  parts.decoder = decoder_of(make_byte_level_step());
  parts.added = added_tokens(vocab);
  parts.bos = vocab.bos;
  parts.eos = vocab.eos;
  if (vocab.add_bos.value_or(pre.add_bos) && vocab.bos) parts.prefix.push_back(*vocab.bos);
  if (vocab.add_eos.value_or(false) && vocab.eos) parts.suffix.push_back(*vocab.eos);
  for (const auto id : {vocab.eot, vocab.eom}) {
    if (id) parts.end_tokens.push_back(*id);
  }
  return make_pipeline_tokenizer(std::move(parts));
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const GgufVocab& vocab) {
  check(vocab);
  if (vocab.model == "gpt2") return make_byte_level_bpe(vocab);
  throw Error(ErrorCode::unsupported, "GGUF tokenizer: unknown model '" + std::string(vocab.model) +
                                          "' (tokenizer.ggml.model); known: gpt2");
}

}  // namespace metal_candle
