#include "adapters/formats.h"

#include "adapters/format_common.h"
#include "io/quote.h"
#include "io/text_file.h"
#include "metal_candle/error.h"

namespace metal_candle {

AdapterFile read_adapter(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_regular_file(path, ignored)) {
    const std::string name = path.filename().string();
    const auto directory = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    if (name == "adapter_model.safetensors") return read_peft(directory);
    if (name == "adapters.safetensors") return read_mlx(directory);
    return read_gguf_adapter(path);
  }
  if (std::filesystem::exists(path / "adapter_model.safetensors", ignored)) return read_peft(path);
  if (std::filesystem::exists(path / "adapters.safetensors", ignored)) return read_mlx(path);
  if (std::filesystem::exists(path / "adapter_model.bin", ignored))
    throw Error(ErrorCode::unsupported, quote_path(path / "adapter_model.bin") +
                                            ": pickles are not read; save the adapter as safetensors");
  throw Error(
      ErrorCode::not_found,
      quote_path(path) +
          ": no adapter here; expected a GGUF file or a directory with adapter_model.safetensors (PEFT) "
          "or adapters.safetensors (mlx-lm)");
}

std::string read_adapter_config(const std::filesystem::path& directory) {
  auto text = read_text_file(directory / "adapter_config.json");
  if (!text)
    throw Error(ErrorCode::not_found, quote_path(directory / "adapter_config.json") +
                                          ": missing; an adapter's weights need it beside them");
  return *std::move(text);
}

bool is_adaptable(WeightRole role) noexcept {
  switch (role) {
    case WeightRole::embedding:
    case WeightRole::lm_head:
    case WeightRole::q:
    case WeightRole::k:
    case WeightRole::v:
    case WeightRole::o:
    case WeightRole::gate:
    case WeightRole::up:
    case WeightRole::down: return true;
    default: return false;
  }
}

WeightId adaptable_module(NameScheme scheme, std::string_view name, const std::string& file,
                          std::string_view tensor) {
  const auto id = parse_weight_name(scheme, name);
  if (!id || !is_adaptable(id->role))
    throw Error(ErrorCode::unsupported, file + ": " + quote(tensor) + ": " + quote(name) +
                                            " is no projection, embedding or output layer of a decoder");
  return *id;
}

}  // namespace metal_candle
