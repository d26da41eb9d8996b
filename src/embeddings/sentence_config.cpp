#include "embeddings/sentence_config.h"

#include <algorithm>
#include <array>

#include "io/text_file.h"
#include "models/config_reader.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

std::optional<Json> read_json(const fs::path& path) {
  const auto text = read_text_file(path);
  if (!text) return std::nullopt;
  return parse_json(*text, path.string());
}

Json required_json(const fs::path& path) {
  auto json = read_json(path);
  if (!json) throw Error(ErrorCode::not_found, path.string() + ": is missing, but modules.json refers to it");
  return *std::move(json);
}

struct Mode {
  const char* name;  // sentence-transformers 6
  const char* flag;  // before
  Pooling pooling;
};
// In the order in which vectors of several modes are concatenated.
constexpr std::array<Mode, 6> kModes{
    {{"cls", "pooling_mode_cls_token", Pooling::cls},
     {"max", "pooling_mode_max_tokens", Pooling::max},
     {"mean", "pooling_mode_mean_tokens", Pooling::mean},
     {"mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Pooling::mean_sqrt_len},
     {"weightedmean", "pooling_mode_weightedmean_tokens", Pooling::weighted_mean},
     {"lasttoken", "pooling_mode_lasttoken", Pooling::last_token}}};

Pooling pooling_named(const Json& name, const std::string& file) {
  const std::string text = name.is_string() ? name.get<std::string>() : "";
  for (const Mode& mode : kModes)
    if (text == mode.name) return mode.pooling;
  fail(ErrorCode::unsupported, file, "pooling_mode", name.dump(-1, ' ', true) + " is not a known mode");
}

void read_pooling(const fs::path& path, SentenceConfig& config) {
  const Json json = required_json(path);
  const std::string file = path.string();
  const JsonReader read(json, file);
  config.include_prompt = read.boolean("include_prompt", true);
  config.pooling.clear();
  if (const Json* mode = read.find("pooling_mode")) {
    for (const Json& name : mode->is_array() ? *mode : Json::array({*mode}))
      config.pooling.push_back(pooling_named(name, file));
  } else {
    for (const Mode& mode : kModes)
      if (read.boolean(mode.flag, false)) config.pooling.push_back(mode.pooling);
  }
  if (config.pooling.empty()) fail(ErrorCode::malformed_file, file, "pooling_mode", "no mode is chosen");
}

PostModule dense_module(const fs::path& directory) {
  const fs::path path = directory / "config.json";
  const Json json = required_json(path);
  const std::string file = path.string();
  const JsonReader read(json, file);
  if (read.boolean("use_residual", false))
    fail(ErrorCode::unsupported, file, "use_residual", "residual Dense modules are not supported");
  PostModule out;
  out.directory = directory;
  out.activation =
      activation_from_torch(read.text("activation_function", "torch.nn.modules.activation.Tanh"), file);
  return out;
}

void read_transformer(const fs::path& directory, SentenceConfig& config) {
  config.transformer = directory;
  // transformers' own limit, which sentence-transformers takes over; absent or 10^30 where there is none.
  const fs::path tokenizer_path = directory / "tokenizer_config.json";
  if (const auto json = read_json(tokenizer_path)) {
    const std::string file = tokenizer_path.string();
    const double limit = JsonReader(*json, file).number("model_max_length", 1e30);
    if (limit >= 1 && limit <= kMaxSize) config.max_length = static_cast<std::size_t>(limit);
  }
  const fs::path path = directory / "sentence_bert_config.json";
  const auto json = read_json(path);
  if (!json) return;
  const std::string file = path.string();
  const JsonReader read(*json, file);
  if (read.find("max_seq_length")) config.max_length = read.size("max_seq_length");
  config.lower_case = read.boolean("do_lower_case", false);
}

void read_prompts(const fs::path& path, SentenceConfig& config) {
  const auto json = read_json(path);
  if (!json) return;
  const std::string file = path.string();
  const JsonReader read(*json, file);
  config.default_prompt = read.text("default_prompt_name", "");
  const Json* prompts = read.find("prompts");
  if (!prompts) return;
  const JsonReader named(*prompts, file);
  for (const auto& [name, prompt] : prompts->items()) config.prompts[name] = named.text(name.c_str(), "");
  if (!config.default_prompt.empty() && !config.prompts.contains(config.default_prompt))
    fail(ErrorCode::malformed_file, file, "default_prompt_name", "names no entry of prompts");
}

// A sub-folder that modules.json names: never above or outside the model.
fs::path module_directory(const fs::path& root, const JsonReader& module) {
  const fs::path relative = module.text("path", "");
  if (relative.is_absolute() || std::ranges::find(relative, fs::path("..")) != relative.end())
    fail(ErrorCode::malformed_file, module.file(), "path", "must lie inside the model's directory");
  return relative.empty() ? root : root / relative;
}

}  // namespace

SentenceConfig sentence_config_from_directory(const fs::path& directory) {
  SentenceConfig config;
  const fs::path path = directory / "modules.json";
  const auto modules = read_json(path);
  if (!modules) {
    read_transformer(directory, config);
    return config;
  }
  const std::string file = path.string();
  if (!modules->is_array()) fail(ErrorCode::malformed_file, file, "(top level)", "must be a list of modules");
  bool pooled = false;
  for (const Json& entry : *modules) {
    const JsonReader module(entry, file);
    const std::string type = module.text("type", "");
    const std::string kind = type.substr(type.find_last_of('.') + 1);
    const fs::path folder = module_directory(directory, module);
    if (kind == "Transformer") {
      read_transformer(folder, config);
    } else if (kind == "Pooling") {
      read_pooling(folder / "config.json", config);
      pooled = true;
    } else if (kind == "Normalize") {
      config.post.push_back({.normalize = true, .directory = {}});
    } else if (kind == "Dense") {
      config.post.push_back(dense_module(folder));
    } else {
      fail(ErrorCode::unsupported, file, "type",
           "'" + type + "' is not supported (Transformer, Pooling, Dense, Normalize are)");
    }
  }
  if (config.transformer.empty() || !pooled)
    fail(ErrorCode::malformed_file, file, "type", "a Transformer and a Pooling module are needed");
  read_prompts(directory / "config_sentence_transformers.json", config);
  return config;
}

SentenceConfig sentence_config_from_gguf(const GgufFile& gguf) {
  SentenceConfig config;
  const std::string key =
      std::string(gguf.metadata().required_string("general.architecture")) + ".pooling_type";
  switch (gguf.metadata().optional_u64(key).value_or(1)) {
    case 1: config.pooling = {Pooling::mean}; break;
    case 2: config.pooling = {Pooling::cls}; break;
    case 3: config.pooling = {Pooling::last_token}; break;
    default:
      fail(ErrorCode::unsupported, gguf.name(), key, "only mean (1), cls (2) and last (3) are supported");
  }
  config.post.push_back({.normalize = true, .directory = {}});
  return config;
}

}  // namespace metal_candle
