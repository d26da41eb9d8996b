// What the modules of one adapter are called: a decoder's, as weight_names has them, or an encoder's, which
// follow the checkpoint of its architecture.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/encoder_names.h"
#include "io/weight_names.h"

namespace metal_candle {

/// Cheap to copy but for the prefix; immutable.
class ModuleNames {
 public:
  /// Hugging Face's names of a causal decoder.
  ModuleNames() = default;
  ModuleNames(const EncoderNames& encoder, std::string prefix)
      : encoder_(&encoder), prefix_(std::move(prefix)) {}

  /// All that fit every one of these names; a causal decoder's alone, if they do. Encoders share some names,
  /// so there may be several.
  static std::vector<ModuleNames> that_fit(const std::vector<std::string_view>& modules);

  /// Null: a causal decoder's.
  const EncoderNames* encoder() const noexcept { return encoder_; }
  /// Empty if the architecture has no such module.
  std::string name(WeightId id) const;
  std::optional<WeightId> parse(std::string_view name) const;
  bool operator==(const ModuleNames&) const = default;

 private:
  const EncoderNames* encoder_ = nullptr;
  std::string prefix_;
};

/// Without what may stand before it; empty if the architecture has no such module.
std::string encoder_module_name(const EncoderNames& encoder, WeightId id);

}  // namespace metal_candle
