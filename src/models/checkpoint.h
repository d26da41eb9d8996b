// A model on disk, opened but not loaded: its weights' store, configuration, tokenizer and chat template,
// wherever the format keeps them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "io/hub_cache.h"
#include "io/weight_store.h"
#include "metal_candle/tokenizer.h"
#include "models/encoder_spec.h"
#include "models/model_config.h"

namespace metal_candle {

/// The chat template of a Hugging Face directory; empty if there is none. Throws Error(malformed_file).
std::optional<std::string> chat_template_from_directory(const std::filesystem::path& directory);

/// Move-only; immutable.
class Checkpoint {
 public:
  /// A GGUF file, a safetensors file beside its config.json, a Hugging Face directory, or the name of a model
  /// in the local Hugging Face cache. Throws as find_model and WeightStore::open do.
  static Checkpoint open(const std::filesystem::path& path) {
    return Checkpoint(WeightStore::open(find_model(path)));
  }

  const WeightStore& store() const noexcept { return store_; }

  /// Throws Error(not_found) without a config.json, and as config_from_* do.
  ModelConfig config() const;
  /// The same for an embedding model. Throws as encoder_spec_from_* do.
  EncoderSpec encoder_spec() const;
  /// config.json of a Hugging Face directory. Throws Error(not_found) without one.
  Json config_json() const;
  /// Null if the checkpoint has none.
  std::unique_ptr<Tokenizer> tokenizer() const;
  /// Jinja source; empty if there is none.
  std::optional<std::string> chat_template() const;
  /// The author's name for the model; may be empty.
  std::string name() const;

 private:
  explicit Checkpoint(WeightStore store) : store_(std::move(store)) {}
  WeightStore store_;
};

}  // namespace metal_candle
