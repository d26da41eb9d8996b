#include "tokenizer/tokenizer_json.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/json.h"
#include "metal_candle/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pipeline_tokenizer.h"
#include "tokenizer/tokenizer_json_parts.h"
#include "tokenizer/unigram.h"
#include "tokenizer/wordpiece.h"

namespace metal_candle {
namespace {

using tokenizer_json::Fields;

/// "vocab": {"piece": id}. Gaps between ids are empty pieces; `pieces` views the JSON's strings.
std::shared_ptr<const Vocabulary> read_vocabulary(const Fields& model) {
  const Json& vocab = model.at("vocab");
  if (!vocab.is_object()) model.malformed("has a 'vocab' that is not an object");
  const std::size_t most = 4 * vocab.size() + 65536;  // far sparser ids are no vocabulary
  std::vector<std::string_view> pieces(vocab.size());
  for (const auto& [piece, id] : vocab.items()) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= most) {
      model.malformed("has the id " + id.dump() + " in 'vocab', which is not a number below " +
                      std::to_string(most));
    }
    const auto index = id.get<std::size_t>();
    if (index >= pieces.size()) pieces.resize(index + 1);
    pieces[index] = piece;
  }
  return std::make_shared<Vocabulary>(pieces);
}

std::optional<TokenId> find_token(const Fields& model, const Vocabulary& vocabulary, const char* key) {
  if (!model.has(key)) return std::nullopt;
  const TokenId id = vocabulary.find(model.text(key));
  return id >= 0 ? std::optional(id) : std::nullopt;
}

std::vector<BpeMerge> read_merges(const Fields& model, const Vocabulary& vocabulary,
                                  std::string_view prefix) {
  const Json& list = model.array("merges");
  std::vector<BpeMerge> merges;
  merges.reserve(list.size());
  for (const Json& rule : list) {
    std::string_view left, right;
    if (rule.is_string()) {
      const std::string_view text = rule.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      left = text.substr(0, space);
      right = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
    } else if (rule.is_array() && rule.size() == 2 && rule[0].is_string() && rule[1].is_string()) {
      left = rule[0].get_ref<const std::string&>();
      right = rule[1].get_ref<const std::string&>();
    }
    const auto merge = find_merge(vocabulary, left, right, merges.size(), prefix);
    if (left.empty() || right.empty() || !merge) {
      model.malformed("has the merge " +
                      rule.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 100) +
                      ", which is not two known tokens that join to a third");
    }
    merges.push_back(*merge);
  }
  return merges;
}

void refuse_dropout(const Fields& model) {
  if (model.has("dropout") && model.at("dropout") != 0) model.unsupported("dropout");
}

std::unique_ptr<TokenModel> read_bpe(const Fields& model, TokenizerParts& parts, bool byte_level) {
  refuse_dropout(model);
  BpeOptions options;
  options.byte_level = byte_level;
  options.byte_fallback = model.flag("byte_fallback", false);
  options.fuse_unknown = model.flag("fuse_unk", false);
  options.ignore_merges = model.flag("ignore_merges", false);
  options.unknown = find_token(model, *parts.vocabulary, "unk_token").value_or(-1);
  options.continuing_prefix = model.text("continuing_subword_prefix", "");
  options.end_suffix = model.text("end_of_word_suffix", "");
  const auto merges = read_merges(model, *parts.vocabulary, options.continuing_prefix);
  return std::make_unique<Bpe>(parts.vocabulary, merges, std::move(options));
}

std::unique_ptr<TokenModel> read_wordpiece(const Fields& model, TokenizerParts& parts) {
  WordPieceOptions options;
  const auto unknown = find_token(model, *parts.vocabulary, "unk_token");
  if (!unknown) model.malformed("has no 'unk_token' in its vocabulary");
  options.unknown = *unknown;
  options.continuing_prefix = model.text("continuing_subword_prefix", "##");
  options.longest_word = model.count("max_input_chars_per_word", 100);
  return std::make_unique<WordPiece>(parts.vocabulary, std::move(options));
}

std::unique_ptr<TokenModel> read_unigram(const Fields& model, TokenizerParts& parts) {
  std::vector<std::string_view> pieces;
  std::vector<double> scores;
  for (const Json& entry : model.array("vocab")) {
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number() ||
        !std::isfinite(entry[1].get<double>())) {
      model.malformed("has a 'vocab' entry " + std::to_string(pieces.size()) +
                      " that is not a piece and its score");
    }
    pieces.push_back(entry[0].get_ref<const std::string&>());
    scores.push_back(entry[1].get<double>());
  }
  TokenId unknown = -1;
  if (model.has("unk_id")) {
    const std::size_t id = model.count("unk_id", 0);
    if (id >= pieces.size()) model.malformed("has an 'unk_id' outside its vocabulary");
    unknown = static_cast<TokenId>(id);
  }
  parts.vocabulary = std::make_shared<Vocabulary>(pieces);
  return std::make_unique<Unigram>(parts.vocabulary, scores, unknown, model.flag("byte_fallback", false));
}

/// An added token as tokenizer.json or added_tokens_decoder describes it. A token that the model knows
/// keeps the model's id, as in tokenizers.
AddedToken read_added_token(const Fields& fields, std::size_t id, const Vocabulary& vocabulary) {
  AddedToken token;
  token.content = fields.text("content");
  token.special = fields.flag("special", false);
  token.normalized = fields.flag("normalized", !token.special);
  token.lstrip = fields.flag("lstrip", false);
  token.rstrip = fields.flag("rstrip", false);
  token.single_word = fields.flag("single_word", false);
  const TokenId known = vocabulary.find(token.content);
  if (id >= std::size_t{1} << 30) fields.malformed("has an id of 2^30 or more");
  token.id = known >= 0 ? known : static_cast<TokenId>(id);
  return token;
}

void read_added_tokens(const Fields& root, TokenizerParts& parts) {
  if (!root.has("added_tokens")) return;
  std::size_t index = 0;
  for (const Json& entry : root.array("added_tokens")) {
    const Fields fields = root.element(entry, "added_tokens", index++);
    fields.at("id");
    AddedToken token = read_added_token(fields, fields.count("id", 0), *parts.vocabulary);
    if (!token.content.empty()) parts.added.push_back(std::move(token));
  }
}

/// The text of "bos_token" and its like: a string, or an object with "content".
std::optional<std::string> special_text(const Fields& config, const char* key) {
  if (!config.has(key)) return std::nullopt;
  return config.at(key).is_object() ? config.object(key).text("content") : config.text(key);
}

void read_config(const Fields& config, TokenizerParts& parts) {
  std::unordered_map<std::string, TokenId> added;
  for (const AddedToken& token : parts.added) added.emplace(token.content, token.id);
  if (config.has("added_tokens_decoder")) {
    const Fields decoder = config.object("added_tokens_decoder");
    for (const auto& [key, value] : config.at("added_tokens_decoder").items()) {
      if (key.empty() || key.size() > 9 ||
          !std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        decoder.malformed("has the key '" + key.substr(0, 20) + "', which is not a token id");
      }
      AddedToken token = read_added_token(decoder.object(key.c_str()), std::stoul(key), *parts.vocabulary);
      if (token.content.empty() || !added.emplace(token.content, token.id).second) continue;
      parts.added.push_back(std::move(token));
    }
  }
  const auto find = [&](const char* key) -> std::optional<TokenId> {
    const auto text = special_text(config, key);
    if (!text) return std::nullopt;
    if (const auto found = added.find(*text); found != added.end()) return found->second;
    const TokenId id = parts.vocabulary->find(*text);
    return id >= 0 ? std::optional(id) : std::nullopt;
  };
  parts.bos = find("bos_token");
  parts.eos = find("eos_token");

  // These classes replace the post-processor by BOS and EOS as their two flags say.
  std::string name = config.text("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  if (name != "LlamaTokenizer" && name != "CodeLlamaTokenizer" && name != "GemmaTokenizer" &&
      name != "CohereTokenizer") {
    return;
  }
  parts.prefix.clear();
  parts.suffix.clear();
  if (config.flag("add_bos_token", true) && parts.bos) parts.prefix.push_back(*parts.bos);
  if (config.flag("add_eos_token", false) && parts.eos) parts.suffix.push_back(*parts.eos);
}

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const TokenizerJson& files) {
  const Json json = parse_json(files.json, files.source);
  const Fields root(json, files.source, "tokenizer");
  TokenizerParts parts;

  const Fields model = root.object("model");
  // Files of old lack the type; their models differ by what they hold.
  std::string type = model.text("type", "");
  if (type.empty()) type = model.has("merges") ? "BPE" : model.has("unk_id") ? "Unigram" : "WordPiece";
  bool byte_level = false;
  if (root.has("pre_tokenizer")) {
    const bool affixes =
        !model.text("continuing_subword_prefix", "").empty() || !model.text("end_of_word_suffix", "").empty();
    auto result = tokenizer_json::read_pre_tokenizer(root.object("pre_tokenizer"), type == "BPE" && !affixes);
    parts.pre_tokenizer = std::move(result.stages);
    byte_level = result.byte_level;
  }
  if (type == "Unigram") {
    parts.model = read_unigram(model, parts);
  } else if (type == "BPE" || type == "WordPiece") {
    parts.vocabulary = read_vocabulary(model);
    parts.model = type == "BPE" ? read_bpe(model, parts, byte_level) : read_wordpiece(model, parts);
  } else {
    model.unsupported("model '" + type + "'");
  }
  read_added_tokens(root, parts);
  if (root.has("normalizer")) parts.normalizer = tokenizer_json::read_normalizer(root.object("normalizer"));
  if (root.has("decoder")) {
    parts.decoder = tokenizer_json::read_decoder(root.object("decoder"));
  } else {
    std::vector<std::unique_ptr<DecodeStep>> join;
    join.push_back(make_join_step());
    parts.decoder = PieceDecoder(std::move(join));
  }
  if (root.has("post_processor")) tokenizer_json::read_post_processor(root.object("post_processor"), parts);
  parts.end_tokens = files.end_tokens;
  if (!files.config.empty()) {
    const Json config = parse_json(files.config, "tokenizer_config.json");
    read_config(Fields(config, "tokenizer_config.json", "config"), parts);
  }
  return make_pipeline_tokenizer(std::move(parts));
}

}  // namespace metal_candle
