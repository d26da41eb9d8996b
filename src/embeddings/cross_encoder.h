// A sequence classifier with one label that reads a query and a text together: the reranker.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "embeddings/text_encoder.h"

namespace metal_candle {

/// Thread-safe.
class CrossEncoder {
 public:
  /// Whether a checkpoint says of itself that it classifies sequences.
  static bool describes(const std::filesystem::path& path);

  /// Throws Error(unsupported) for a head with several labels, else as LoadedEncoder::open does.
  CrossEncoder(const std::filesystem::path& path, const TextEncoder::Options& options);

  /// One score a text.
  std::vector<float> score(std::string_view query, std::span<const std::string_view> texts) const;

 private:
  LoadedEncoder encoder_;
  std::optional<TokenFrame> frame_;
  Pooling pooling_ = Pooling::cls;
  std::optional<Affine> dense_;
  LayerNorm norm_;  ///< after dense_; none but in ModernBERT
  std::optional<Affine> classifier_;
};

}  // namespace metal_candle
