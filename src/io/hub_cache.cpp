#include "io/hub_cache.h"

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "io/quote.h"
#include "io/text_file.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

fs::path cache_directory() {
  const auto set = [](const char* name) -> const char* {
    const char* value = std::getenv(name);
    return value && *value ? value : nullptr;
  };
  if (const char* cache = set("HF_HUB_CACHE")) return cache;
  if (const char* home = set("HF_HOME")) return fs::path(home) / "hub";
  if (const char* cache = set("XDG_CACHE_HOME")) return fs::path(cache) / "huggingface" / "hub";
  const char* home = set("HOME");
  return fs::path(home ? home : ".") / ".cache" / "huggingface" / "hub";
}

// "organisation/name" and nothing that walks about the file system; "models/a.gguf" is a mistyped path.
bool is_model_name(const std::string& text) {
  if (text.ends_with(".gguf") || text.ends_with(".safetensors")) return false;
  const std::size_t slash = text.find('/');
  if (slash == 0 || slash == std::string::npos || slash + 1 == text.size()) return false;
  if (text.find('/', slash + 1) != std::string::npos) return false;
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '/';
  };
  for (char c : text)
    if (!plain(c)) return false;
  return text[0] != '.' && text[slash + 1] != '.';
}

std::vector<fs::path> gguf_files(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(directory, ignored))
    if (entry.path().extension() == ".gguf") out.push_back(entry.path());
  return out;
}

}  // namespace

fs::path find_model(const fs::path& path) {
  std::error_code ignored;
  const std::string name = path.string();
  if (fs::exists(path, ignored) || !is_model_name(name)) return path;
  const std::size_t slash = name.find('/');
  const fs::path repository =
      cache_directory() / ("models--" + name.substr(0, slash) + "--" + name.substr(slash + 1));
  const std::optional<std::string> revision = read_text_file(repository / "refs" / "main");
  fs::path snapshot = revision
                          ? repository / "snapshots" / revision->substr(0, revision->find_first_of(" \r\n"))
                          : fs::path();
  if (!revision || !fs::is_directory(snapshot, ignored))
    throw Error(ErrorCode::not_found, quote_path(path) + ": no such file, and no such model in " +
                                          quote_path(cache_directory()) +
                                          "; download it first (hf download " + name + ") or give a path");
  if (fs::exists(snapshot / "config.json", ignored)) return snapshot;
  const std::vector<fs::path> files = gguf_files(snapshot);
  if (files.size() > 1)
    throw Error(ErrorCode::invalid_argument, quote_path(snapshot) + ": holds " +
                                                 std::to_string(files.size()) +
                                                 " GGUF files; give the path of one");
  return files.empty() ? snapshot : files.front();
}

}  // namespace metal_candle
