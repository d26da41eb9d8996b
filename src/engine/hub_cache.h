// Models that Hugging Face's tools have already downloaded. Downloads nothing.
#pragma once

#include <filesystem>
#include <string_view>

namespace metal_candle {

/// The directory of `repository`'s main revision in the local cache: $HF_HUB_CACHE, else $HF_HOME/hub, else
/// ~/.cache/huggingface/hub. Throws Error(not_found) naming where it was looked for.
std::filesystem::path find_in_hub_cache(std::string_view repository);

}  // namespace metal_candle
