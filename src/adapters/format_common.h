// What the readers and writers of adapter formats share: files beside the weights, and modules' names.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/json.h"
#include "io/weight_names.h"

namespace metal_candle {

/// adapter_config.json of the directory. Throws Error(not_found) naming it.
std::string read_adapter_config(const std::filesystem::path& directory);
/// Writes it, whole or not at all. Throws as AtomicWriter does.
void write_adapter_config(const std::filesystem::path& directory, const OrderedJson& config);

/// make_directory() for an adapter. Throws also Error(invalid_argument) naming the file `stranger` if it is
/// in there, which would be read instead of what is written.
void make_adapter_directory(const std::filesystem::path& directory, const char* stranger);

/// `id`, what `name` was parsed as, of a module that can be adapted: the projections, the embedding, the
/// output layer. Throws Error(unsupported) naming `tensor` for any other.
WeightId adaptable(std::optional<WeightId> id, std::string_view name, const std::string& file,
                   std::string_view tensor);

bool is_adaptable(WeightRole role) noexcept;

}  // namespace metal_candle
