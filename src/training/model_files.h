// The model that a run begins with, on disk: a checkpoint, or for training from scratch a directory without
// weights. It loads none.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "models/checkpoint.h"
#include "models/decoder_spec.h"
#include "training/example_encoder.h"

namespace metal_candle {

class ModelFiles {
 public:
  /// As Checkpoint::open, or a Hugging Face directory without weights. Throws as it does.
  explicit ModelFiles(const std::filesystem::path& path);

  /// Null if there are no weights.
  const Checkpoint* checkpoint() const noexcept { return checkpoint_ ? &*checkpoint_ : nullptr; }
  DecoderSpec spec() const;
  /// Throws Error(unsupported) without a tokenizer.
  std::shared_ptr<const ExampleEncoder> encoder(const Dataset::Options& options) const;
  /// Of config.json; empty for GGUF.
  std::filesystem::path directory() const;

 private:
  std::filesystem::path path_;
  std::optional<Checkpoint> checkpoint_;
};

}  // namespace metal_candle
