// What sentence-transformers keeps beside a checkpoint: modules.json and the files it points at. Plain data;
// the layers themselves are loaded by text_encoder.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "embeddings/affine.h"
#include "embeddings/pooling.h"
#include "io/gguf.h"

namespace metal_candle {

/// A step after pooling.
struct PostModule {
  bool normalize = false;           ///< L2; otherwise a dense layer:
  std::filesystem::path directory;  ///< whose model.safetensors holds "linear"
  AffineActivation activation = AffineActivation::tanh;
};

struct SentenceConfig {
  std::filesystem::path transformer;            ///< directory of the checkpoint itself
  std::vector<Pooling> pooling{Pooling::mean};  ///< their vectors are concatenated
  bool include_prompt = true;                   ///< a prompt's tokens take part in the pooling
  std::vector<PostModule> post;
  std::optional<std::size_t> max_length;  ///< max_seq_length; the tokenizer's and the model's own still hold
  bool lower_case = false;
  std::map<std::string, std::string> prompts;
  std::string default_prompt;  ///< name of a prompt; empty: none
};

/// Of a directory. Without modules.json it is a plain checkpoint: mean pooling, no normalisation.
/// Throws Error(not_found | malformed_file | unsupported) naming file and key.
SentenceConfig sentence_config_from_directory(const std::filesystem::path& directory);

/// Pooling as the file says, then normalisation, as llama.cpp does it.
SentenceConfig sentence_config_from_gguf(const GgufFile& gguf);

}  // namespace metal_candle
