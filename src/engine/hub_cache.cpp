#include "engine/hub_cache.h"

#include <cstdlib>
#include <string>

#include "io/text_file.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

fs::path cache_root() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (const std::string cache = variable("HF_HUB_CACHE"); !cache.empty()) return cache;
  if (const std::string home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
  return fs::path(variable("HOME")) / ".cache/huggingface/hub";
}

}  // namespace

fs::path find_in_hub_cache(std::string_view repository) {
  std::string folder = "models--" + std::string(repository);
  folder.replace(folder.find('/'), 1, "--");
  const fs::path model = cache_root() / folder;
  std::string revision = read_text_file(model / "refs/main").value_or("");
  while (!revision.empty() && (revision.back() == '\n' || revision.back() == ' ')) revision.pop_back();
  const fs::path snapshot = model / "snapshots" / revision;
  if (revision.empty() || revision.find('/') != std::string::npos || !fs::is_directory(snapshot))
    throw Error(ErrorCode::not_found,
                model.string() + ": " + std::string(repository) +
                    " has not been downloaded; get it with Hugging Face's own tools, or load a directory");
  return snapshot;
}

}  // namespace metal_candle
