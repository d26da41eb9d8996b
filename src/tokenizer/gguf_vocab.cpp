#include "tokenizer/gguf_vocab.h"

#include <algorithm>
#include <string>

#include "metal_candle/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pipeline_tokenizer.h"
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

struct PreTokenizerSpec {
  std::unique_ptr<PreTokenizer> stages;
  bool ignore_merges = false;
  bool add_bos = false;
};

PreTokenizerSpec pre_tokenizer(std::string_view pre) {
  PreTokenizerSpec spec;
  if (pre == "gpt-2" || pre == "mpt") {
    spec.stages = make_gpt2_splitter();
  } else if (pre == "smollm" || pre == "starcoder" || pre == "refact" || pre == "command-r") {
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    stages.push_back(make_digit_splitter(true));
    stages.push_back(make_gpt2_splitter());
    spec.stages = std::make_unique<PreTokenizerSequence>(std::move(stages));
  } else if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    spec = {make_llama3_splitter(3), true, true};
  } else if (pre == "qwen2") {
    spec.stages = make_llama3_splitter(1);
  } else {
    throw Error(ErrorCode::unsupported,
                "GGUF tokenizer: unknown pre-tokenizer '" + std::string(pre) +
                    "' (tokenizer.ggml.pre); known: gpt-2, mpt, smollm, starcoder, refact, command-r, "
                    "llama-bpe, qwen2");
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
  parts.model = std::make_unique<Bpe>(parts.vocabulary, merges,
                                      BpeOptions{.byte_level = true, .ignore_merges = pre.ignore_merges});
  parts.pre_tokenizer = std::move(pre.stages);
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
