// GGUF adapters, as llama.cpp's convert_lora_to_gguf writes them: <tensor>.weight.lora_a and .lora_b, one
// alpha.
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "adapters/format_common.h"
#include "adapters/formats.h"
#include "adapters/written_tensors.h"
#include "io/gguf.h"
#include "io/gguf_writer.h"
#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

float scale_of(float alpha, std::size_t rank) {
  return alpha != 0 ? static_cast<float>(static_cast<double>(alpha) / static_cast<double>(rank)) : 1;
}

// The alpha from which scale_of() gives this scale; the nearest where f32 has none that does.
float alpha_of(float scale, std::size_t rank) {
  const auto alpha = static_cast<float>(static_cast<double>(scale) * static_cast<double>(rank));
  for (const float side : {-1.0f, 1.0f}) {
    const float near = std::nextafter(alpha, side * std::numeric_limits<float>::infinity());
    if (scale_of(alpha, rank) != scale && scale_of(near, rank) == scale) return near;
  }
  return alpha;
}

}  // namespace

std::string gguf_architecture(std::string_view model_type) {
  return std::string(model_type == "mistral" ? "llama" : model_type);
}

// llama.cpp's converter interleaves the halves of each rotated head for this architecture only.
RotaryOrder gguf_rotary(std::string_view gguf_architecture) {
  return gguf_architecture == "llama" ? RotaryOrder::interleaved : RotaryOrder::halves;
}

AdapterFile read_gguf_adapter(const std::filesystem::path& path) {
  const GgufFile gguf = GgufFile::open(path);
  const std::string file = quote_path(path);
  const GgufMetadata& metadata = gguf.metadata();
  const auto require = [&](std::string_view key, std::string_view wanted) {
    const std::string_view got = metadata.required_string(key);
    if (got != wanted)
      throw Error(ErrorCode::unsupported,
                  file + ": " + std::string(key) + ": " + quote(got) + " is not " + std::string(wanted));
  };
  require("general.type", "adapter");
  require("adapter.type", "lora");
  for (const GgufEntry& entry : metadata.entries())
    if (entry.key.starts_with("adapter.") && entry.key != "adapter.type" && entry.key != "adapter.lora.alpha")
      throw Error(ErrorCode::unsupported, file + ": " + quote(entry.key) + ": this field is not honoured");
  const auto alpha = static_cast<float>(metadata.required_f64("adapter.lora.alpha"));
  std::map<WeightId, LoraSource> sources;
  for (const StoredTensor& t : gguf.tensors()) {
    std::string_view name = t.name;
    const bool is_a = name.ends_with(".weight.lora_a");
    if (!is_a && !name.ends_with(".weight.lora_b"))
      throw Error(ErrorCode::unsupported, file + ": " + quote(name) + ": no part of a LoRA adapter");
    name.remove_suffix(std::string_view(".weight.lora_a").size());
    const WeightId id = adaptable(parse_weight_name(NameScheme::gguf, name), name, file, t.name);
    LoraSource& s = sources[id];
    s.id = id;
    s.a_rank_first = id.role != WeightRole::embedding;  // a table is stored by token
    (is_a ? s.a : s.b) = &t;
  }
  std::vector<LoraSource> list;
  for (auto& [id, s] : sources) {
    if (!s.a || !s.b || s.b->shape.size() != 2)
      throw Error(ErrorCode::malformed_file, file + ": " + weight_name(NameScheme::gguf, id) +
                                                 ": needs a matrix lora_a and a matrix lora_b");
    s.scale = scale_of(alpha, s.b->shape[1]);
    list.push_back(std::move(s));
  }
  if (list.empty()) throw Error(ErrorCode::malformed_file, file + ": holds no tensors");
  const std::string architecture(metadata.required_string("general.architecture"));
  auto weights = LoraWeights::build(std::move(list), file, gguf_rotary(architecture), {}, gguf.files());
  const std::string base(metadata.optional_string("general.base_model.0.name").value_or(""));
  return {"gguf", base, std::move(weights), nullptr, architecture};
}

void write_gguf_adapter(const std::filesystem::path& file, const LoraWeights& weights,
                        const std::string& base_model, const std::string& architecture) {
  std::optional<float> alpha;
  WrittenTensors out;
  for (const LoraModule& m : weights.modules()) {
    const LoraDelta& d = m.delta;
    const auto refuse = [&](const std::string& why) {
      throw Error(ErrorCode::unsupported, quote_path(file) + ": " + module_name(m.id) + ": GGUF " + why);
    };
    if (d.rows || !d.bias.empty() || !m.magnitude.empty())
      refuse("keeps neither DoRA nor biases nor weights stored whole in an adapter");
    const float of_module = alpha_of(d.scale, d.rank);
    if (!alpha) alpha = of_module;
    if (scale_of(*alpha, d.rank) != scale_of(of_module, d.rank))
      refuse("has one alpha (scale times rank) for all modules; this one's differs from that of " +
             module_name(weights.modules().front().id));
    if (of_module == 0) refuse("cannot say that a scale is 0");
    const std::string name = weight_name(NameScheme::gguf, m.id) + ".weight.lora_";
    const bool embedding = m.id.role == WeightRole::embedding;
    out.add_matrix(name + "a", d.type, d.a, embedding ? m.in : d.rank, embedding ? d.rank : m.in, false);
    out.add_b(name + "b", d, false);
  }
  std::vector<GgufEntry> entries{
      {"general.architecture", GgufType::string, std::string_view(architecture)},
      {"general.type", GgufType::string, std::string_view("adapter")},
      {"adapter.type", GgufType::string, std::string_view("lora")},
      {"adapter.lora.alpha", GgufType::f32, static_cast<double>(alpha.value_or(0))}};
  if (!base_model.empty()) {
    entries.push_back({"general.base_model.count", GgufType::u32, std::uint64_t{1}});
    entries.push_back({"general.base_model.0.name", GgufType::string, std::string_view(base_model)});
  }
  write_gguf(file, entries, out.tensors());
}

}  // namespace metal_candle
