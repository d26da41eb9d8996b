#include "io/module_names.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace metal_candle {
namespace {

constexpr std::array kEncoders{&kDecoderNames, &kBertNames, &kMpnetNames, &kModernbertNames, &kNomicNames};

// "" for what the architecture lacks.
const char* own_name(const EncoderNames& names, WeightRole role) {
  const bool gated = *names.activated || *names.activated_gate;
  switch (role) {
    case WeightRole::embedding: return names.words;
    case WeightRole::q: return names.q;
    case WeightRole::k: return names.k;
    case WeightRole::v: return names.v;
    case WeightRole::qkv: return names.qkv;
    case WeightRole::o: return names.output;
    // A decoder's gate is what is activated.
    case WeightRole::gate: return names.activated;
    case WeightRole::up: return gated ? names.gate : names.up;
    case WeightRole::gate_up: return names.activated_gate;
    case WeightRole::down: return names.down;
    case WeightRole::pooler: return names.pooler;
    default: return "";
  }
}

// The number that stands where `layer` has {}.
std::optional<std::uint32_t> layer_number(const EncoderNames& names, std::string_view name) {
  const std::string_view layer = names.layer, before = layer.substr(0, layer.find("{}"));
  std::uint32_t number = 0;
  if (!name.starts_with(before)) return std::nullopt;
  name.remove_prefix(before.size());
  if (std::from_chars(name.data(), name.data() + name.size(), number).ec != std::errc()) return std::nullopt;
  return number;
}

}  // namespace

std::string encoder_module_name(const EncoderNames& encoder, WeightId id) {
  const char* own = own_name(encoder, id.role);
  if (!*own) return {};
  return is_of_layer(id.role) ? encoder.of_layer(id.layer, own) : own;
}

std::vector<ModuleNames> ModuleNames::that_fit(const std::vector<std::string_view>& modules) {
  std::vector<ModuleNames> out;
  const auto add = [&](ModuleNames names) {
    if (std::ranges::all_of(modules, [&](std::string_view m) { return names.parse(m).has_value(); }))
      out.push_back(std::move(names));
  };
  add({});
  if (!out.empty()) return out;
  for (const EncoderNames* encoder : kEncoders)
    for (const char* prefix : encoder_prefixes()) add({*encoder, prefix});
  return out;
}

std::string ModuleNames::name(WeightId id) const {
  if (!encoder_) return weight_name(NameScheme::hugging_face, id);
  const std::string own = encoder_module_name(*encoder_, id);
  return own.empty() ? own : prefix_ + own;
}

std::optional<WeightId> ModuleNames::parse(std::string_view name) const {
  if (!encoder_) return parse_weight_name(NameScheme::hugging_face, name);
  if (!name.starts_with(prefix_)) return std::nullopt;
  const std::string_view own = name.substr(prefix_.size());
  const std::uint32_t layer = layer_number(*encoder_, own).value_or(0);
  for (unsigned role = 0; role < kWeightRoles; ++role) {
    WeightId id{static_cast<WeightRole>(role), layer};
    if (!is_of_layer(id.role)) id.layer = 0;
    if (!own.empty() && encoder_module_name(*encoder_, id) == own) return id;
  }
  return std::nullopt;
}

}  // namespace metal_candle
