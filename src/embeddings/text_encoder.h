// A sentence-transformers model as a whole: tokenizer, encoder, pooling and what follows it.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "embeddings/ragged_runner.h"
#include "embeddings/sentence_config.h"
#include "embeddings/token_frame.h"
#include "models/checkpoint.h"
#include "tokenizer/normalizer.h"

namespace metal_candle {

/// An encoder with the tokenizer that feeds it, out of one checkpoint.
struct LoadedEncoder {
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<RaggedRunner> runner;

  /// Throws Error(unsupported) without a tokenizer; else as Checkpoint::open, encoder_spec and load_encoder
  /// do.
  static LoadedEncoder open(const std::filesystem::path& path, Products products);
  const EncoderSpec& spec() const { return runner->encoder().spec(); }
};

/// Token ids of every text, without special tokens around them, on the compute pool. Invalid UTF-8 is read as
/// U+FFFD.
std::vector<std::vector<TokenId>> encode_all(const Tokenizer& tokenizer,
                                             std::span<const std::string_view> texts);

/// Thread-safe.
class TextEncoder {
 public:
  struct Options {
    Products products = Products::half;
    std::optional<std::size_t> max_length;  ///< instead of the configuration's
  };
  /// `path`: a directory, a safetensors file in one, or a GGUF file.
  TextEncoder(const std::filesystem::path& path, const Options& options);

  std::size_t dimensions() const noexcept { return dimensions_; }
  std::size_t max_length() const noexcept { return max_length_; }
  const SentenceConfig& config() const noexcept { return config_; }
  const EncoderSpec& spec() const { return encoder_.spec(); }
  const Encoder& encoder() const { return encoder_.runner->encoder(); }

  /// out: [texts, dimensions]. `prompt` is put before every text; `mix` may be null.
  void embed(std::span<const std::string_view> texts, const std::string& prompt, TruncationSide side,
             const AdapterMix* mix, float* out) const;

 private:
  std::size_t prompt_tokens(const std::string& prompt) const;

  SentenceConfig config_;
  LoadedEncoder encoder_;
  std::size_t max_length_ = 0;
  std::optional<TokenFrame> frame_;
  std::unique_ptr<Normalizer> lower_case_;
  struct Step {
    std::optional<Affine> dense;  ///< none: normalisation
  };
  std::vector<Step> post_;
  std::size_t pooled_ = 0;  ///< width before post_
  std::size_t dimensions_ = 0;
};

}  // namespace metal_candle
