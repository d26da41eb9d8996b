// Models that Hugging Face's tools have already downloaded, by the name they have there. Reads the cache
// only; nothing is fetched or written.
#pragma once

#include <filesystem>

namespace metal_candle {

/// `path` itself if it exists or is no "organisation/name". Else the snapshot that refs/main of that model
/// names in $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub, in this order of preference: the
/// directory, or the one GGUF file of a repository without config.json. Throws Error(not_found) if the name
/// is not in the cache, Error(invalid_argument) if it holds several GGUF files. Layout: huggingface_hub,
/// "Understand caching".
std::filesystem::path find_model(const std::filesystem::path& path);

}  // namespace metal_candle
