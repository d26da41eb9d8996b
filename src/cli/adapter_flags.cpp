#include "cli/adapter_flags.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace metal_candle::cli {

NamedAdapter NamedAdapter::parse(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    throw Error(ErrorCode::invalid_argument, "--adapter " + text + ": expected NAME=PATH or NAME=PATH:SCALE");
  NamedAdapter out{text.substr(0, equals), text.substr(equals + 1)};
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon <= equals + 1) return out;
  float scale = 0;
  const auto parsed = std::from_chars(text.data() + colon + 1, text.data() + text.size(), scale);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size() || !std::isfinite(scale))
    return out;
  out.scale = scale;
  out.path = text.substr(equals + 1, colon - equals - 1);
  return out;
}

void AdapterFlags::add_to(CLI::App& app) {
  app.add_option("--adapter", texts, "LoRA adapter: a PEFT or mlx-lm directory or a GGUF file (repeatable)")
      ->allow_extra_args(false)
      ->type_name("NAME=PATH[:SCALE]")
      ->group("Model");
}

std::vector<NamedAdapter> AdapterFlags::parse() const {
  std::vector<NamedAdapter> out;
  for (const std::string& text : texts) {
    NamedAdapter parsed = NamedAdapter::parse(text);
    if (std::ranges::find(out, parsed.name, &NamedAdapter::name) != out.end())
      throw Error(ErrorCode::invalid_argument, "--adapter " + text + ": another one has this name");
    out.push_back(std::move(parsed));
  }
  return out;
}

std::vector<AdapterUse> AdapterFlags::load() const {
  AdapterRegistry registry;  // for its rules on names
  std::vector<AdapterUse> out;
  for (const NamedAdapter& a : parse()) out.push_back({registry.load_adapter(a.name, a.path), a.scale});
  return out;
}

}  // namespace metal_candle::cli
