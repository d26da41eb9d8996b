// Tokenizers out of model files. The tokenizer room takes plain data; this is where it is read.
#pragma once

#include <filesystem>
#include <memory>

#include "io/gguf.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// From `tokenizer.ggml.*`; null if the file has none. Throws as make_tokenizer and GgufMetadata do.
std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufFile& gguf);

/// From tokenizer.json (and tokenizer_config.json) in `directory`; null if there is none.
std::unique_ptr<Tokenizer> tokenizer_from_directory(const std::filesystem::path& directory);

}  // namespace metal_candle
