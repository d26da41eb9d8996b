#include "tokenizer/pipeline_tokenizer.h"

#include <algorithm>
#include <iterator>

#include "metal_candle/error.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8_stream.h"

namespace metal_candle {
namespace {

/// Texts of the tokens that end a turn or a document in the model families we know. Files often name
/// only one of them as EOS, and the model writes another.
constexpr std::string_view kEndTexts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>",
};

constexpr TokenId kMostTokens = 1 << 30;

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
    size_ = parts_.vocabulary->size();
    std::vector<AddedToken> raw, normalized;
    for (const AddedToken& token : parts_.added) {
      check(token.id);
      size_ = std::max(size_, static_cast<std::size_t>(token.id) + 1);
      added_by_id_[token.id] = &token;
      added_by_text_[token.content] = token.id;
      if (!token.normalized) {
        raw.push_back(token);
        continue;
      }
      normalized.push_back(token);
      if (parts_.normalizer) {
        normalized.back().content = parts_.normalizer->normalize(std::move(normalized.back().content));
      }
    }
    raw_finder_ = AddedTokenFinder(std::move(raw));
    normalized_finder_ = AddedTokenFinder(std::move(normalized));
    for (const auto id : {parts_.bos, parts_.eos}) {
      if (id) check(*id);
    }
    if (parts_.eos) parts_.end_tokens.push_back(*parts_.eos);
    for (const std::string_view text : kEndTexts) {
      if (const auto id = find(text)) parts_.end_tokens.push_back(*id);
    }
    // Where <|return|> and <|call|> exist, <|end|> only closes one message of several.
    if (find("<|return|>") && find("<|call|>") && find("<|end|>") && parts_.eos != find("<|end|>")) {
      std::erase(parts_.end_tokens, *find("<|end|>"));
    }
    std::sort(parts_.end_tokens.begin(), parts_.end_tokens.end());
  }

  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override {
    std::string repaired;
    if (const std::size_t bad = find_invalid_utf8(text); bad < text.size()) {
      if (options.strict_utf8) {
        throw Error(ErrorCode::invalid_argument,
                    "tokenizer: the text is not valid UTF-8 at byte " + std::to_string(bad));
      }
      repaired = replace_invalid_utf8(text);
      text = repaired;
    }
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 3 + parts_.prefix.size() + parts_.suffix.size() + 1);
    if (options.add_special) ids = parts_.prefix;
    std::vector<TextSpan> spans;
    raw_finder_.split(text, options.parse_special, spans);
    PreTokens pieces;
    for (const TextSpan& span : spans) {
      if (span.id >= 0) {
        ids.push_back(span.id);
      } else {
        encode_span(text.substr(span.begin, span.end - span.begin), span.begin == 0, options, pieces, ids);
      }
    }
    if (options.add_special) ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
    return ids;
  }

  std::string decode(std::span<const TokenId> ids, bool skip_special) const override;
  std::unique_ptr<TextDecoder> make_decoder(bool skip_special) const override;

  std::size_t vocab_size() const noexcept override { return size_; }
  std::string_view piece(TokenId id) const noexcept override {
    const auto added = added_by_id_.find(id);
    return added != added_by_id_.end() ? std::string_view(added->second->content)
                                       : parts_.vocabulary->piece(id);
  }
  std::optional<TokenId> find(std::string_view piece) const noexcept override {
    // A look-up without a copy: string_view keys point into parts_.added.
    const auto added = added_by_text_.find(piece);
    if (added != added_by_text_.end()) return added->second;
    const TokenId id = parts_.vocabulary->find(piece);
    return id >= 0 ? std::optional(id) : std::nullopt;
  }
  bool is_special(TokenId id) const noexcept override {
    const auto added = added_by_id_.find(id);
    return added != added_by_id_.end() && added->second->special;
  }
  std::optional<TokenId> bos() const noexcept override { return parts_.bos; }
  std::optional<TokenId> eos() const noexcept override { return parts_.eos; }
  bool ends_generation(TokenId id) const noexcept override {
    return std::binary_search(parts_.end_tokens.begin(), parts_.end_tokens.end(), id);
  }
  std::string_view kind() const noexcept override { return parts_.model->kind(); }

  /// Appends the bytes that a token adds to a text.
  void append_text(TokenId id, bool skip_special, PieceDecoder::States& states, std::string& out) const {
    if (id < 0 || static_cast<std::size_t>(id) >= size_) {
      throw Error(ErrorCode::invalid_argument, "tokenizer: token id " + std::to_string(id) +
                                                   " is outside the vocabulary of " + std::to_string(size_));
    }
    if (!skip_special || !is_special(id)) parts_.decoder.push(piece(id), states, out);
  }
  const PieceDecoder& decoder() const noexcept { return parts_.decoder; }

 private:
  static void check(TokenId id) {
    if (id < 0 || id >= kMostTokens) {
      throw Error(ErrorCode::malformed_file,
                  "tokenizer: token id " + std::to_string(id) + " is out of range");
    }
  }

  void encode_span(std::string_view text, bool first, const EncodeOptions& options, PreTokens& pieces,
                   std::vector<TokenId>& ids) const {
    std::string normalized;
    if (parts_.normalizer) {
      normalized = parts_.normalizer->normalize(std::string(text));
      text = normalized;
    }
    if (normalized_finder_.empty()) return encode_text(text, first, pieces, ids);
    std::vector<TextSpan> spans;
    normalized_finder_.split(text, options.parse_special, spans);
    for (const TextSpan& span : spans) {
      if (span.id >= 0) {
        ids.push_back(span.id);
      } else {
        encode_text(text.substr(span.begin, span.end - span.begin), first && span.begin == 0, pieces, ids);
      }
    }
  }

  void encode_text(std::string_view text, bool first, PreTokens& pieces, std::vector<TokenId>& ids) const {
    pieces.reset(text, first);
    if (parts_.pre_tokenizer) parts_.pre_tokenizer->run(pieces);
    for (const PieceRange range : pieces.pieces()) parts_.model->encode(pieces.text(range), ids);
  }

  TokenizerParts parts_;
  std::size_t size_ = 0;
  std::unordered_map<TokenId, const AddedToken*> added_by_id_;
  std::unordered_map<std::string_view, TokenId> added_by_text_;
  AddedTokenFinder raw_finder_, normalized_finder_;
};

class StreamDecoder final : public TextDecoder {
 public:
  StreamDecoder(const PipelineTokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special), states_(tokenizer.decoder().start(true)) {}
  std::string push(TokenId id) override {
    bytes_.clear();
    tokenizer_.append_text(id, skip_special_, states_, bytes_);
    return stream_.push(bytes_);
  }
  std::string flush() override {
    bytes_.clear();
    tokenizer_.decoder().finish(states_, bytes_);
    states_ = tokenizer_.decoder().start(true);
    return stream_.push(bytes_) + stream_.flush();
  }

 private:
  const PipelineTokenizer& tokenizer_;  // outlives its decoders
  const bool skip_special_;
  PieceDecoder::States states_;
  std::string bytes_;
  Utf8Stream stream_;
};

std::string PipelineTokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  auto states = parts_.decoder.start(false);
  for (const TokenId id : ids) append_text(id, skip_special, states, bytes);
  parts_.decoder.finish(states, bytes);
  return replace_invalid_utf8(bytes);
}

std::unique_ptr<TextDecoder> PipelineTokenizer::make_decoder(bool skip_special) const {
  return std::make_unique<StreamDecoder>(*this, skip_special);
}

}  // namespace

std::unique_ptr<Tokenizer> make_pipeline_tokenizer(TokenizerParts parts) {
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace metal_candle
