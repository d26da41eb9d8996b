#include "tokenizer/tokenizer_json_parts.h"

#include <utility>

#include "tokenizer/fail.h"
#include "tokenizer/normalizers.h"
#include "tokenizer/precompiled_charsmap.h"
#include "tokenizer/regex.h"
#include "tokenizer/split_stages.h"
#include "tokenizer/unicode.h"
#include "tokenizer/word_splitters.h"

namespace metal_candle::tokenizer_json {

Fields::Fields(const Json& object, std::string_view source, std::string path)
    : object_(object), source_(source), path_(std::move(path)) {
  if (!object_.is_object()) malformed("is not an object");
}

void Fields::malformed(const std::string& why) const {
  fail_tokenizer(ErrorCode::malformed_file, std::string(source_) + ": " + path_ + " " + why);
}
void Fields::unsupported(const std::string& what) const {
  fail_tokenizer(ErrorCode::unsupported,
                 std::string(source_) + ": " + path_ + ": " + what + " is not supported");
}
bool Fields::has(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}
const Json& Fields::at(const char* key) const {
  if (!has(key)) malformed(std::string("lacks '") + key + "'");
  return *object_.find(key);
}
std::string Fields::text(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) malformed(std::string("has a '") + key + "' that is not a string");
  return value.get<std::string>();
}
std::string Fields::text(const char* key, const std::string& otherwise) const {
  return has(key) ? text(key) : otherwise;
}
bool Fields::flag(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  if (!at(key).is_boolean()) malformed(std::string("has a '") + key + "' that is not true or false");
  return at(key).get<bool>();
}
std::size_t Fields::count(const char* key, std::size_t otherwise) const {
  if (!has(key)) return otherwise;
  if (!at(key).is_number_unsigned()) malformed(std::string("has a '") + key + "' that is not a whole number");
  return at(key).get<std::size_t>();
}
const Json& Fields::array(const char* key) const {
  const Json& value = at(key);
  if (!value.is_array()) malformed(std::string("has a '") + key + "' that is not a list");
  return value;
}
Fields Fields::object(const char* key) const { return Fields(at(key), source_, path_ + "." + key); }
Fields Fields::element(const Json& element, const char* key, std::size_t index) const {
  return Fields(element, source_, path_ + "." + key + "[" + std::to_string(index) + "]");
}

namespace {

/// The members of a Sequence.
std::vector<Fields> members(const Fields& fields, const char* key) {
  std::vector<Fields> out;
  for (const Json& member : fields.array(key)) out.push_back(fields.element(member, key, out.size()));
  return out;
}

struct Pattern {
  std::string text;
  bool regex;
};

Pattern read_pattern(const Fields& fields) {
  const Fields pattern = fields.object("pattern");
  if (pattern.has("Regex")) return {pattern.text("Regex"), true};
  const std::string text = pattern.text("String");
  if (text.empty()) fields.malformed("has an empty pattern");
  return {text, false};
}

/// A field of exactly one character.
std::string read_character(const Fields& fields, const char* key) {
  const std::string text = fields.text(key);
  if (text.empty() || read_utf8(text, 0).length != text.size()) {
    fields.malformed(std::string("has a '") + key + "' that is not one character");
  }
  return text;
}

SplitBehavior read_behavior(const Fields& fields, const std::string& name) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  fields.unsupported("behavior '" + name + "'");
}

struct Metaspace {
  std::string replacement;
  PrependScheme prepend;
  bool split;
};

Metaspace read_metaspace(const Fields& fields) {
  Metaspace out{read_character(fields, "replacement"), PrependScheme::always, fields.flag("split", true)};
  const std::string scheme = fields.text("prepend_scheme", "always");
  if (scheme == "first") {
    out.prepend = PrependScheme::first;
  } else if (scheme == "never" || (scheme == "always" && !fields.flag("add_prefix_space", true) &&
                                   !fields.has("prepend_scheme"))) {
    out.prepend = PrependScheme::never;
  } else if (scheme != "always") {
    fields.unsupported("prepend_scheme '" + scheme + "'");
  }
  return out;
}

using Stages = std::vector<std::unique_ptr<PreTokenizer>>;

/// Appends the stages of a component. `writer_last`: the byte-level alphabet is still to be written.
void append_stages(const Fields& fields, Stages& stages, bool& writer_last) {
  const std::string type = fields.type();
  if (type == "Sequence") {
    for (const Fields& member : members(fields, "pretokenizers")) append_stages(member, stages, writer_last);
    return;
  }
  if (std::exchange(writer_last, false)) stages.push_back(make_byte_level_writer());
  if (type == "ByteLevel") {
    if (fields.flag("add_prefix_space", true)) stages.push_back(make_space_prefixer());
    if (fields.flag("use_regex", true)) stages.push_back(make_gpt2_splitter());
    writer_last = true;
  } else if (type == "Split") {
    const Pattern pattern = read_pattern(fields);
    const SplitBehavior behavior = read_behavior(fields, fields.text("behavior"));
    const bool invert = fields.flag("invert", false);
    stages.push_back(pattern.regex ? make_regex_splitter(pattern.text, behavior, invert)
                                   : make_text_splitter(pattern.text, behavior, invert));
  } else if (type == "Metaspace") {
    Metaspace m = read_metaspace(fields);
    stages.push_back(make_metaspace(std::move(m.replacement), m.prepend, m.split));
  } else if (type == "Digits") {
    stages.push_back(make_digit_splitter(fields.flag("individual_digits", false)));
  } else if (type == "Punctuation") {
    stages.push_back(make_punctuation_splitter(read_behavior(fields, fields.text("behavior", "Isolated"))));
  } else if (type == "BertPreTokenizer") {
    stages.push_back(make_bert_splitter());
  } else if (type == "Whitespace") {
    stages.push_back(make_word_splitter());
  } else if (type == "WhitespaceSplit") {
    stages.push_back(make_whitespace_splitter());
  } else if (type == "CharDelimiterSplit") {
    stages.push_back(make_text_splitter(read_character(fields, "delimiter"), SplitBehavior::removed, false));
  } else {
    fields.unsupported("pre-tokenizer '" + type + "'");
  }
}

/// Appends the steps of a decoder. `fused`: the steps so far give one text, not pieces.
void append_steps(const Fields& fields, std::vector<std::unique_ptr<DecodeStep>>& steps, bool& fused) {
  const std::string type = fields.type();
  if (type == "Sequence") {
    for (const Fields& member : members(fields, "decoders")) append_steps(member, steps, fused);
  } else if (type == "ByteLevel") {
    steps.push_back(make_byte_level_step());
    fused = true;
  } else if (type == "Fuse") {
    fused = true;
  } else if (type == "ByteFallback") {
    steps.push_back(make_byte_fallback_step());
  } else if (type == "Replace") {
    const Pattern pattern = read_pattern(fields);
    if (pattern.regex) fields.unsupported("a regular expression in a decoder");
    if (fused && read_utf8(pattern.text, 0).length != pattern.text.size()) {
      fields.unsupported("replacing several characters behind Fuse");
    }
    steps.push_back(make_replace_step(pattern.text, fields.text("content")));
  } else if (type == "Strip") {
    const std::size_t start = fields.count("start", 0), stop = fields.count("stop", 0);
    if (fused && stop > 0) fields.unsupported("stripping the end behind Fuse");
    const std::string content = read_character(fields, "content");
    steps.push_back(fused ? make_text_strip_step(content, start) : make_strip_step(content, start, stop));
  } else if (fused) {
    fields.unsupported("decoder '" + type + "' behind Fuse");
  } else if (type == "Metaspace") {
    Metaspace m = read_metaspace(fields);
    steps.push_back(make_metaspace_step(std::move(m.replacement), m.prepend != PrependScheme::never));
  } else if (type == "WordPiece") {
    steps.push_back(make_wordpiece_step(fields.text("prefix", "##"), fields.flag("cleanup", true)));
  } else {
    fields.unsupported("decoder '" + type + "'");
  }
}

/// [["</s>", 2]]-like pair of text and id.
TokenId read_pair(const Fields& fields, const char* key, std::size_t vocabulary) {
  const Json& pair = fields.array(key);
  if (pair.size() != 2 || !pair[0].is_string() || !pair[1].is_number_unsigned() ||
      pair[1].get<std::uint64_t>() >= vocabulary) {
    fields.malformed(std::string("has a '") + key + "' that is not a text and a known id");
  }
  return pair[1].get<TokenId>();
}

std::size_t id_count(const TokenizerParts& parts) {
  std::size_t count = parts.vocabulary->size();
  for (const AddedToken& token : parts.added) count = std::max(count, static_cast<std::size_t>(token.id) + 1);
  return count;
}

/// TemplateProcessing's "single": special tokens before and after the sequence.
void read_template(const Fields& fields, TokenizerParts& parts) {
  const std::size_t limit = id_count(parts);
  std::vector<TokenId> before, after;
  std::size_t sequences = 0;
  for (const Fields& piece : members(fields, "single")) {
    if (piece.has("Sequence")) {
      if (piece.object("Sequence").text("id") != "A") piece.malformed("is not sequence A");
      ++sequences;
      continue;
    }
    const std::string name = piece.object("SpecialToken").text("id");
    const Fields special = fields.object("special_tokens").object(name.c_str());
    for (const Json& id : special.array("ids")) {
      if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= limit) {
        special.malformed("has an id outside the vocabulary");
      }
      (sequences == 0 ? before : after).push_back(id.get<TokenId>());
    }
  }
  if (sequences != 1) fields.unsupported("a template with other than one sequence");
  parts.prefix.insert(parts.prefix.begin(), before.begin(), before.end());
  parts.suffix.insert(parts.suffix.end(), after.begin(), after.end());
}

}  // namespace

std::unique_ptr<Normalizer> read_normalizer(const Fields& fields) {
  const std::string type = fields.type();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> steps;
    for (const Fields& member : members(fields, "normalizers")) steps.push_back(read_normalizer(member));
    return std::make_unique<NormalizerSequence>(std::move(steps));
  }
  if (type == "BertNormalizer") {
    const bool lowercase = fields.flag("lowercase", true);
    return make_bert_normalizer({.clean_text = fields.flag("clean_text", true),
                                 .handle_chinese_chars = fields.flag("handle_chinese_chars", true),
                                 .strip_accents = fields.flag("strip_accents", lowercase),
                                 .lowercase = lowercase});
  }
  if (type == "Replace") {
    const Pattern pattern = read_pattern(fields);
    return pattern.regex ? make_regex_replace_normalizer(pattern.text, fields.text("content"))
                         : make_replace_normalizer(pattern.text, fields.text("content"));
  }
  if (type == "NFC") return make_unicode_normalizer(UnicodeForm::nfc);
  if (type == "NFD") return make_unicode_normalizer(UnicodeForm::nfd);
  if (type == "NFKC") return make_unicode_normalizer(UnicodeForm::nfkc);
  if (type == "NFKD") return make_unicode_normalizer(UnicodeForm::nfkd);
  if (type == "Lowercase") return make_lowercase_normalizer();
  if (type == "StripAccents") return make_strip_accents_normalizer();
  if (type == "Strip") {
    return make_strip_normalizer(fields.flag("strip_left", true), fields.flag("strip_right", true));
  }
  if (type == "Prepend") return make_prepend_normalizer(fields.text("prepend"));
  if (type == "Precompiled") return make_precompiled_normalizer_base64(fields.text("precompiled_charsmap"));
  if (type == "Nmt") return make_nmt_normalizer();
  if (type == "ByteLevel") return make_byte_level_normalizer();
  fields.unsupported("normalizer '" + type + "'");
}

PreTokenizerResult read_pre_tokenizer(const Fields& fields, bool model_writes_bytes) {
  Stages stages;
  bool writer_last = false;
  append_stages(fields, stages, writer_last);
  PreTokenizerResult out{nullptr, writer_last && model_writes_bytes};
  if (writer_last && !model_writes_bytes) stages.push_back(make_byte_level_writer());
  out.stages = std::make_unique<PreTokenizerSequence>(std::move(stages));
  return out;
}

PieceDecoder read_decoder(const Fields& fields) {
  std::vector<std::unique_ptr<DecodeStep>> steps;
  bool fused = false;
  append_steps(fields, steps, fused);
  return PieceDecoder(std::move(steps));
}

void read_post_processor(const Fields& fields, TokenizerParts& parts) {
  const std::string type = fields.type();
  if (type == "Sequence") {
    for (const Fields& member : members(fields, "processors")) read_post_processor(member, parts);
  } else if (type == "TemplateProcessing") {
    read_template(fields, parts);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    const std::size_t limit = id_count(parts);
    parts.prefix.insert(parts.prefix.begin(), read_pair(fields, "cls", limit));
    parts.suffix.push_back(read_pair(fields, "sep", limit));
  } else if (type != "ByteLevel") {  // that one only trims offsets
    fields.unsupported("post-processor '" + type + "'");
  }
}

}  // namespace metal_candle::tokenizer_json
