#include "tokenizer/gguf_vocab.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "tokenizer/bpe.h"
#include "tokenizer/fail.h"
#include "tokenizer/gguf_pre_tokenizers.h"
#include "tokenizer/normalizers.h"
#include "tokenizer/pipeline_tokenizer.h"
#include "tokenizer/split_stages.h"
#include "tokenizer/wordpiece.h"

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

constexpr std::size_t kLongestPiece = 1024;  // bytes; real pieces stay below 200

[[noreturn]] void malformed(const std::string& what) {
  fail_tokenizer(ErrorCode::malformed_file, "GGUF tokenizer: " + what);
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

std::vector<BpeMerge> read_merges(const GgufVocab& vocab, const Vocabulary& pieces) {
  std::vector<BpeMerge> merges;
  merges.reserve(vocab.merges.size());
  for (const std::string_view line : vocab.merges) {
    const std::size_t space = line.find(' ', 1);  // a piece may itself start with a space
    std::optional<BpeMerge> merge;
    if (space != std::string_view::npos)
      merge = find_merge(pieces, line.substr(0, space), line.substr(space + 1), merges.size(), {},
                         merges.empty() ? -1 : merges.back().merged + 1);
    if (!merge) {
      malformed("merge " + std::to_string(merges.size()) + " ('" + std::string(line.substr(0, 80)) +
                "') is not two known tokens that join to a third");
    }
    merges.push_back(*merge);
  }
  return merges;
}

std::int32_t type_of(const GgufVocab& vocab, std::size_t id) {
  return vocab.types.empty() ? normal : vocab.types[id];
}

/// Control, unknown and user-defined tokens: those that are looked for in the text.
std::vector<AddedToken> added_tokens(const GgufVocab& vocab) {
  std::vector<AddedToken> added;
  for (std::size_t i = 0; i < vocab.tokens.size(); ++i) {
    const std::int32_t type = type_of(vocab, i);
    if (type != control && type != unknown && type != user_defined) continue;
    added.push_back({.content = std::string(vocab.tokens[i]),
                     .id = static_cast<TokenId>(i),
                     .special = type != user_defined});
  }
  return added;
}

/// What all models have in common; BOS and EOS are added as the file says, or else as the model does.
void set_special(const GgufVocab& vocab, bool add_bos, bool add_eos, TokenizerParts& parts) {
  parts.added = added_tokens(vocab);
  parts.bos = vocab.bos;
  parts.eos = vocab.eos;
  if (vocab.add_bos.value_or(add_bos) && vocab.bos) parts.prefix.push_back(*vocab.bos);
  if (vocab.add_eos.value_or(add_eos) && vocab.eos) parts.suffix.push_back(*vocab.eos);
  for (const auto id : {vocab.eot, vocab.eom}) {
    if (id) parts.end_tokens.push_back(*id);
  }
}

template <typename... Steps>
PieceDecoder decoder_of(Steps... steps) {
  std::vector<std::unique_ptr<DecodeStep>> chain;
  (chain.push_back(std::move(steps)), ...);
  return PieceDecoder(std::move(chain));
}

std::unique_ptr<Tokenizer> make_byte_level_bpe(const GgufVocab& vocab) {
  TokenizerParts parts;
  auto pre = find_gguf_pre_tokenizer(vocab.pre);
  parts.vocabulary = std::make_shared<Vocabulary>(vocab.tokens);
  const auto merges = read_merges(vocab, *parts.vocabulary);
  parts.model = std::make_unique<Bpe>(
      parts.vocabulary, merges, BpeOptions{.byte_level = pre.byte_level, .ignore_merges = pre.ignore_merges});
  parts.pre_tokenizer = std::make_unique<PreTokenizerSequence>(std::move(pre.stages));
  if (pre.nfc) parts.normalizer = make_unicode_normalizer(UnicodeForm::nfc);
  parts.decoder = decoder_of(make_byte_level_step());
  set_special(vocab, pre.add_bos, false, parts);
  return make_pipeline_tokenizer(std::move(parts));
}

/// SentencePiece's BPE has no list of merges: two neighbours merge if their text is a token, the token with
/// the highest score first. Every way to cut a token into two tokens is thus a rule.
std::vector<BpeMerge> merges_of_scores(const GgufVocab& vocab, const Vocabulary& pieces) {
  const auto mergeable = [&](TokenId id) {
    return id >= 0 && type_of(vocab, static_cast<std::size_t>(id)) == normal;
  };
  std::vector<TokenId> order;
  for (std::size_t i = 0; i < vocab.tokens.size(); ++i) {
    if (mergeable(static_cast<TokenId>(i))) order.push_back(static_cast<TokenId>(i));
  }
  const auto score = [&](TokenId id) { return vocab.scores[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return score(a) > score(b); });
  std::vector<BpeMerge> merges;
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) < score(order[i - 1])) ++rank;  // equal scores: the leftmost goes first
    const std::string_view text = pieces.piece(order[i]);
    if (text.size() > kLongestPiece)
      continue;  // every cut is tried, so a hostile length would cost its square
    for (std::size_t at = 1; at < text.size(); ++at) {
      if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
      const TokenId left = pieces.find(text.substr(0, at));
      if (!mergeable(left)) continue;
      const TokenId right = pieces.find(text.substr(at));
      if (mergeable(right)) merges.push_back({left, right, order[i], rank});
    }
  }
  return merges;
}

/// Phi-3's special tokens swallow the white space after them; GGUF has no field for that, and files of
/// this vocabulary are known by these tokens.
void mend_phi3(TokenizerParts& parts) {
  const auto has = [&](std::string_view text) { return parts.vocabulary->find(text) >= 0; };
  if (!has("<|placeholder1|>") || !has("<|assistant|>") || !has("<|end|>")) return;
  for (AddedToken& token : parts.added) {
    token.rstrip = token.content != "<unk>" && token.content != "<s>" && token.content != "<|endoftext|>";
  }
}

std::unique_ptr<Tokenizer> make_sentencepiece_bpe(const GgufVocab& vocab) {
  if (vocab.scores.empty()) malformed("tokenizer.ggml.scores is missing");
  if (std::any_of(vocab.scores.begin(), vocab.scores.end(), [](float s) { return std::isnan(s); })) {
    malformed("tokenizer.ggml.scores holds NaN");
  }
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<Vocabulary>(vocab.tokens);
  BpeOptions options;
  options.byte_fallback = options.fuse_unknown = true;
  options.unknown = vocab.unknown.value_or(parts.vocabulary->find("<unk>"));
  parts.model = std::make_unique<Bpe>(parts.vocabulary, merges_of_scores(vocab, *parts.vocabulary), options);
  const bool prefix = vocab.add_space_prefix.value_or(true);
  std::vector<std::unique_ptr<Normalizer>> steps;
  if (prefix) steps.push_back(make_prepend_normalizer(" "));
  steps.push_back(make_replace_normalizer(" ", "▁"));
  parts.normalizer = std::make_unique<NormalizerSequence>(std::move(steps));
  parts.decoder = decoder_of(make_replace_step("▁", " "), make_byte_fallback_step(),
                             make_text_strip_step(" ", prefix ? 1 : 0));
  set_special(vocab, true, false, parts);
  mend_phi3(parts);
  return make_pipeline_tokenizer(std::move(parts));
}

/// BERT. GGUF marks the pieces that start a word (▁) where BERT marks those that do not (##).
std::unique_ptr<Tokenizer> make_bert(GgufVocab vocab) {
  std::vector<std::string> spelled;
  spelled.reserve(vocab.tokens.size());
  bool cased = false;
  for (std::size_t i = 0; i < vocab.tokens.size(); ++i) {
    const std::string_view text = vocab.tokens[i];
    const bool name = text.starts_with('[') && text.ends_with(']');
    if (type_of(vocab, i) != normal || (name && text.size() > 2)) {
      spelled.emplace_back(text);
    } else if (text.starts_with("▁")) {
      spelled.emplace_back(text.substr(std::string_view("▁").size()));
      cased |= std::any_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
    } else {
      spelled.push_back("##" + std::string(text));
    }
  }
  std::copy(spelled.begin(), spelled.end(), vocab.tokens.begin());
  TokenizerParts parts;
  parts.vocabulary = std::make_shared<Vocabulary>(vocab.tokens);
  WordPieceOptions options;
  options.unknown = vocab.unknown.value_or(parts.vocabulary->find("[UNK]"));
  parts.model = std::make_unique<WordPiece>(parts.vocabulary, options);
  // An uncased vocabulary has no capitals; its text is lowercased and loses its accents.
  parts.normalizer = make_bert_normalizer({.strip_accents = !cased, .lowercase = !cased});
  parts.pre_tokenizer = make_bert_splitter();
  parts.decoder = decoder_of(make_wordpiece_step("##", true));
  if (!vocab.bos) vocab.bos = vocab.cls;
  if (vocab.separator) vocab.eos = vocab.separator;
  set_special(vocab, true, vocab.add_sep.value_or(true), parts);
  return make_pipeline_tokenizer(std::move(parts));
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const GgufVocab& vocab) {
  check(vocab);
  if (vocab.model == "gpt2") return make_byte_level_bpe(vocab);
  if (vocab.model == "llama") return make_sentencepiece_bpe(vocab);
  if (vocab.model == "bert") return make_bert(vocab);
  fail_tokenizer(ErrorCode::unsupported, "GGUF tokenizer: unknown model '" + std::string(vocab.model) +
                                             "' (tokenizer.ggml.model); known: gpt2, llama, bert");
}

}  // namespace metal_candle
