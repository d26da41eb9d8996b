#include "models/checkpoint.h"

#include "io/text_file.h"
#include "metal_candle/error.h"
#include "models/config_reader.h"
#include "models/registry.h"
#include "models/tokenizer_loader.h"

namespace metal_candle {
namespace {

std::filesystem::path config_path(const WeightStore& store) {
  return store.safetensors()->directory() / "config.json";
}

/// Before the other keys are read, for an unknown architecture has others.
void refuse_unknown(const std::string& architecture, const std::string& file) {
  if (is_decoder(architecture)) return;
  ModelConfig unknown;
  unknown.file = file;
  unknown.architecture = architecture;
  make_decoder_spec(unknown);  // names the known ones
}

}  // namespace

ModelConfig Checkpoint::config() const {
  if (const GgufFile* gguf = store_.gguf()) {
    refuse_unknown(std::string(gguf->metadata().required_string("general.architecture")), gguf->name());
    return config_from_gguf(*gguf);
  }
  const Json json = config_json();
  const std::string file = config_path(store_).string(), type = JsonReader(json, file).text("model_type", "");
  if (!type.empty()) refuse_unknown(type, file);
  return config_from_json(json, file);
}

EncoderSpec Checkpoint::encoder_spec() const {
  if (const GgufFile* gguf = store_.gguf()) {
    const std::string architecture(gguf->metadata().required_string("general.architecture"));
    if (!is_decoder(architecture)) return encoder_spec_from_gguf(*gguf);
    if (architecture == "llama")  // such files interleave the halves of each head, and none is an embedder
      throw Error(ErrorCode::unsupported,
                  gguf->name() + ": general.architecture: '" + architecture +
                      "' is no embedding model in GGUF; use its safetensors directory");
    return encoder_spec_from_decoder(make_decoder_spec(config()));
  }
  const Json json = config_json();
  const std::string file = config_path(store_).string();
  if (is_decoder(JsonReader(json, file).text("model_type", "")))
    return encoder_spec_from_decoder(make_decoder_spec(config_from_json(json, file)));
  return encoder_spec_from_json(json, file);
}

Json Checkpoint::config_json() const {
  const auto path = config_path(store_);
  const auto text = read_text_file(path);
  if (!text)
    throw Error(ErrorCode::not_found,
                path.string() + ": is missing; a safetensors model needs its config.json beside it");
  return parse_json(*text, path.string());
}

std::unique_ptr<Tokenizer> Checkpoint::tokenizer() const {
  return store_.gguf() ? tokenizer_from_gguf(*store_.gguf())
                       : tokenizer_from_directory(store_.safetensors()->directory());
}

std::optional<std::string> Checkpoint::chat_template() const {
  if (const GgufFile* gguf = store_.gguf()) {
    const auto text = gguf->metadata().optional_string("tokenizer.chat_template");
    return text ? std::optional<std::string>(*text) : std::nullopt;
  }
  return chat_template_from_directory(store_.safetensors()->directory());
}

std::optional<std::string> chat_template_from_directory(const std::filesystem::path& directory) {
  // Newer checkpoints keep the template in a file of its own.
  if (auto text = read_text_file(directory / "chat_template.jinja")) return text;
  const auto path = directory / "tokenizer_config.json";
  const auto text = read_text_file(path);
  if (!text) return std::nullopt;
  const Json json = parse_json(*text, path.string());
  const auto it = json.find("chat_template");
  if (it == json.end() || it->is_null()) return std::nullopt;
  if (it->is_string()) return it->get<std::string>();
  // A list of named templates; "default" is the one for plain chat.
  if (it->is_array())
    for (const Json& entry : *it)
      if (entry.is_object() && entry.value("name", Json()) == "default" &&
          entry.value("template", Json()).is_string())
        return entry["template"].get<std::string>();
  throw Error(ErrorCode::malformed_file,
              path.string() + ": chat_template: must be a string or a list with one named 'default'");
}

std::string Checkpoint::name() const {
  if (const GgufFile* gguf = store_.gguf())
    return std::string(gguf->metadata().optional_string("general.name").value_or(""));
  return std::filesystem::weakly_canonical(store_.safetensors()->directory()).filename().string();
}

}  // namespace metal_candle
