#include "training/model_files.h"

#include "io/directory.h"
#include "io/hub_cache.h"
#include "io/quote.h"
#include "io/text_file.h"
#include "models/registry.h"
#include "models/tokenizer_loader.h"

namespace metal_candle {
namespace {

bool has_weights(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return true;
  for (const std::filesystem::path& file : files_in(path)) {
    const std::string name = file.filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".gguf") || name.ends_with(".index.json") ||
        name.ends_with(".bin"))
      return true;
  }
  return !std::filesystem::exists(path / "config.json");
}

}  // namespace

ModelFiles::ModelFiles(const std::filesystem::path& path) : path_(find_model(path)) {
  if (has_weights(path_)) checkpoint_.emplace(Checkpoint::open(path_));
}

std::filesystem::path ModelFiles::directory() const {
  if (!checkpoint_) return path_;
  const SafetensorsModel* files = checkpoint_->store().safetensors();
  return files ? files->directory() : std::filesystem::path();
}

DecoderSpec ModelFiles::spec() const {
  if (checkpoint_) return make_decoder_spec(checkpoint_->config());
  const std::filesystem::path file = path_ / "config.json";
  return make_decoder_spec(config_from_json(parse_json(*read_text_file(file), file.string()), file.string()));
}

std::shared_ptr<const ExampleEncoder> ModelFiles::encoder(const Dataset::Options& options) const {
  std::shared_ptr<const Tokenizer> tokenizer =
      checkpoint_ ? checkpoint_->tokenizer() : tokenizer_from_directory(path_);
  if (!tokenizer)
    throw Error(ErrorCode::unsupported,
                quote_path(path_) + ": has no tokenizer; put tokenizer.json beside the weights");
  const auto source = checkpoint_ ? checkpoint_->chat_template() : chat_template_from_directory(path_);
  std::optional<ChatTemplate> chat_template;
  if (source) chat_template.emplace(*source);
  return std::make_shared<const ExampleEncoder>(std::move(tokenizer), std::move(chat_template), options);
}

}  // namespace metal_candle
