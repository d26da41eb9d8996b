// Adapters on disk: PEFT and mlx-lm directories and GGUF files, told apart by what is there. Each format's
// names and conventions stay in its own file (peft_format, mlx_format, gguf_format).
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "adapters/lora_weights.h"

namespace metal_candle {

/// An adapter as it was read.
struct AdapterFile {
  std::string format;      ///< "peft", "mlx" or "gguf"
  std::string base_model;  ///< as the adapter names it; may be empty
  std::shared_ptr<const LoraWeights> weights;
  /// What the format's own library would adapt in a layer of a model with `layers` layers, in layer 0 also
  /// what is of the model: this must have matrices, and only this. Null: what is stored is what is meant.
  std::function<RoleSet(std::uint32_t layer, std::uint32_t layers)> targets;
  std::string architecture = {};  ///< GGUF: of the base, by GGUF's name; else empty
};

/// The answers of a question about modules, asked beforehand for those of the layers that an adapter reaches.
class ModuleTable {
 public:
  ModuleTable(const LoraWeights& weights, std::function<bool(WeightId)> ask);
  /// The roles of a layer that were answered with yes; those of the model count as layer 0's.
  RoleSet operator()(std::uint32_t layer) const;

 private:
  RoleSet asked(std::uint32_t layer) const;

  std::function<bool(WeightId)> ask_;
  std::vector<RoleSet> layers_;
};

/// `path`: a directory of PEFT (adapter_config.json, adapter_model.safetensors) or mlx-lm
/// (adapter_config.json, adapters.safetensors), the weights' file in one, or a GGUF adapter. Throws
/// Error(not_found | malformed_file | unsupported) naming file and key or tensor.
AdapterFile read_adapter(const std::filesystem::path& path);

AdapterFile read_peft(const std::filesystem::path& directory);
AdapterFile read_mlx(const std::filesystem::path& directory);
AdapterFile read_gguf_adapter(const std::filesystem::path& file);

/// Writes a directory that PEFT loads to the same result. Throws Error(io_error | ...).
void write_peft(const std::filesystem::path& directory, const LoraWeights& weights,
                const std::string& base_model);
/// The same for mlx-lm. Throws Error(unsupported) for what it cannot say: ranks or scales that differ between
/// modules, biases, replaced weights.
void write_mlx(const std::filesystem::path& directory, const LoraWeights& weights);
/// Writes a file that llama.cpp loads to the same result, for a base of this architecture; q and k must be in
/// the order of its files (gguf_rotary). Throws Error(unsupported) for what it cannot say: DoRA, biases,
/// replaced weights, more than one alpha (scale times rank).
void write_gguf_adapter(const std::filesystem::path& file, const LoraWeights& weights,
                        const std::string& base_model, const std::string& architecture);

/// Hugging Face's name of an architecture as GGUF has it, and how GGUF orders its q and k.
std::string gguf_architecture(std::string_view model_type);
RotaryOrder gguf_rotary(std::string_view gguf_architecture);

}  // namespace metal_candle
