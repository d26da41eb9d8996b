#include "models/tokenizer_loader.h"

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "io/text_file.h"
#include "metal_candle/error.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/tokenizer_json.h"

namespace metal_candle {
namespace {

std::optional<TokenId> token_id(const GgufMetadata& meta, std::string_view key) {
  const auto value = meta.optional_u64(key);
  if (!value || *value > static_cast<std::uint64_t>(std::numeric_limits<TokenId>::max())) return std::nullopt;
  return static_cast<TokenId>(*value);
}

// generation_config.json's eos_token_id: one id or a list.
std::vector<TokenId> generation_end_tokens(const std::filesystem::path& path) {
  const auto text = read_text_file(path);
  if (!text) return {};
  const Json json = parse_json(*text, path.string());
  const Json ids = json.is_object() ? json.value("eos_token_id", Json()) : Json();
  std::vector<TokenId> out;
  for (const Json& id : ids.is_array() ? ids : Json::array({ids}))
    if (id.is_number_integer() && id >= 0 && id <= std::numeric_limits<TokenId>::max())
      out.push_back(id.get<TokenId>());
  return out;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufFile& gguf) {
  const GgufMetadata& meta = gguf.metadata();
  if (!meta.contains("tokenizer.ggml.model")) return nullptr;
  GgufVocab vocab;
  vocab.model = meta.required_string("tokenizer.ggml.model");
  vocab.pre = meta.optional_string("tokenizer.ggml.pre").value_or("");
  const auto tokens = meta.string_array("tokenizer.ggml.tokens");
  vocab.tokens.assign(tokens.begin(), tokens.end());
  if (const auto merges = meta.optional_string_array("tokenizer.ggml.merges"))
    vocab.merges.assign(merges->begin(), merges->end());
  const auto wide_types =
      meta.optional_i64_array("tokenizer.ggml.token_type").value_or(std::vector<std::int64_t>{});
  const std::vector<std::int32_t> types(wide_types.begin(), wide_types.end());
  const std::vector<float> scores =
      meta.optional_f32_array("tokenizer.ggml.scores").value_or(std::vector<float>{});
  vocab.types = types;
  vocab.scores = scores;
  vocab.bos = token_id(meta, "tokenizer.ggml.bos_token_id");
  vocab.eos = token_id(meta, "tokenizer.ggml.eos_token_id");
  vocab.unknown = token_id(meta, "tokenizer.ggml.unknown_token_id");
  vocab.separator = token_id(meta, "tokenizer.ggml.seperator_token_id");
  vocab.padding = token_id(meta, "tokenizer.ggml.padding_token_id");
  vocab.cls = token_id(meta, "tokenizer.ggml.cls_token_id");
  vocab.eot = token_id(meta, "tokenizer.ggml.eot_token_id");
  vocab.eom = token_id(meta, "tokenizer.ggml.eom_token_id");
  vocab.add_bos = meta.optional_bool("tokenizer.ggml.add_bos_token");
  vocab.add_eos = meta.optional_bool("tokenizer.ggml.add_eos_token");
  vocab.add_sep = meta.optional_bool("tokenizer.ggml.add_sep_token");
  vocab.add_space_prefix = meta.optional_bool("tokenizer.ggml.add_space_prefix");
  return make_tokenizer(vocab);
}

std::unique_ptr<Tokenizer> tokenizer_from_directory(const std::filesystem::path& directory) {
  const auto path = directory / "tokenizer.json";
  const auto json = read_text_file(path);
  if (!json) return nullptr;
  const std::string config = read_text_file(directory / "tokenizer_config.json").value_or("");
  const std::string source = path.string();
  return make_tokenizer(
      TokenizerJson{*json, config, source, generation_end_tokens(directory / "generation_config.json")});
}

}  // namespace metal_candle
