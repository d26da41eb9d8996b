#include "adapters/formats.h"

#include <algorithm>

#include "adapters/format_common.h"
#include "io/atomic_writer.h"
#include "io/directory.h"
#include "io/quote.h"
#include "io/text_file.h"
#include "metal_candle/error.h"

namespace metal_candle {

ModuleTable::ModuleTable(const LoraWeights& weights, std::function<bool(WeightId)> ask)
    : ask_(std::move(ask)) {
  std::size_t layers = 0;
  for (const LoraModule& m : weights.modules()) layers = std::max<std::size_t>(layers, m.id.layer + 1);
  if (layers > kMostLayers) layers = 0;
  for (std::uint32_t layer = 0; layer < layers; ++layer) layers_.push_back(asked(layer));
}

RoleSet ModuleTable::asked(std::uint32_t layer) const {
  RoleSet roles = 0;
  for (unsigned i = 0; i < kWeightRoles; ++i) {
    const auto role = static_cast<WeightRole>(i);
    if (is_adaptable(role) && (layer == 0 || is_of_layer(role)) && ask_({role, layer}))
      roles |= role_bit(role);
  }
  return roles;
}

RoleSet ModuleTable::operator()(std::uint32_t layer) const {
  return layer < layers_.size() ? layers_[layer] : asked(layer);
}

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

void write_adapter_config(const std::filesystem::path& directory, const OrderedJson& config) {
  AtomicWriter file(directory / "adapter_config.json");
  file.write(config.dump(2) + "\n");
  file.commit();
}

void make_adapter_directory(const std::filesystem::path& directory, const char* stranger) {
  make_directory(directory);
  std::error_code ignored;
  if (std::filesystem::exists(directory / stranger, ignored))
    throw Error(ErrorCode::invalid_argument, quote_path(directory) +
                                                 ": holds an adapter in another format (" + stranger +
                                                 "); give a new directory");
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
    case WeightRole::down:
    case WeightRole::qkv:
    case WeightRole::gate_up:
    case WeightRole::pooler: return true;
    default: return false;
  }
}

WeightId adaptable(std::optional<WeightId> id, std::string_view name, const std::string& file,
                   std::string_view tensor) {
  if (!id || !is_adaptable(id->role))
    throw Error(ErrorCode::unsupported,
                file + ": " + quote(tensor) + ": " + quote(name) +
                    " is no projection, embedding or output layer of a model we know");
  return *id;
}

}  // namespace metal_candle
