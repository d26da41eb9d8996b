// mlx-lm's directories: adapter_config.json and adapters.safetensors, keys <module>.lora_a [in, rank],
// .lora_b [rank, out] and, with DoRA, .m [out]. `scale` multiplies directly.
#include <algorithm>
#include <map>
#include <optional>

#include "adapters/format_common.h"
#include "adapters/formats.h"
#include "adapters/written_tensors.h"
#include "core/json.h"
#include "io/quote.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"

namespace metal_candle {
namespace {

// mlx-lm names modules within their layer.
std::string key_of(WeightId id) {
  const std::string full = module_name(id);
  const std::string layer = "model.layers." + std::to_string(id.layer) + ".";
  return full.starts_with(layer) ? full.substr(layer.size()) : full;
}

struct MlxConfig {
  std::size_t rank = 0;
  double scale = 0;
  bool dora = false;
  std::int64_t layers = -1;  // adapted, from the last; below 1: all
  std::optional<std::vector<std::string>> keys;
  std::string base_model;

  bool names(WeightId id) const { return !keys || std::ranges::find(*keys, key_of(id)) != keys->end(); }
};

MlxConfig parse_config(const std::string& text, const std::string& file) {
  const auto fail = [&](ErrorCode code, const std::string& why) { throw Error(code, file + ": " + why); };
  const Json json = parse_json(text, file, {.unique_keys = true});
  if (!json.is_object()) fail(ErrorCode::malformed_file, "expected a JSON object");
  MlxConfig out;
  if (json.contains("fine_tune_type")) {
    if (json["fine_tune_type"] != "lora" && json["fine_tune_type"] != "dora")
      fail(ErrorCode::unsupported,
           "fine_tune_type: " + quote(json["fine_tune_type"].dump()) + " is neither \"lora\" nor \"dora\"");
    out.dora = json["fine_tune_type"] == "dora";
  }
  if (!json.contains("lora_parameters") || !json["lora_parameters"].is_object())
    fail(ErrorCode::malformed_file, "has no object lora_parameters");
  const Json& p = json["lora_parameters"];
  if (!p.contains("rank") || !p["rank"].is_number_unsigned() || p["rank"] == 0)
    fail(ErrorCode::malformed_file, "lora_parameters.rank: expected a rank of 1 or more");
  if (!p.contains("scale") || !p["scale"].is_number())
    fail(ErrorCode::malformed_file, "lora_parameters.scale: expected a number");
  for (const auto& [key, value] : p.items())
    if (key != "rank" && key != "scale" && key != "dropout" && key != "keys" && key != "alpha")
      fail(ErrorCode::unsupported, "lora_parameters." + quote(key) + " is not honoured");
  out.rank = p["rank"].get<std::size_t>();
  out.scale = p["scale"].get<double>();
  if (p.contains("keys") && !p["keys"].is_null()) {
    out.keys.emplace();
    if (!p["keys"].is_array()) fail(ErrorCode::malformed_file, "lora_parameters.keys: expected a list");
    for (const Json& key : p["keys"]) {
      if (!key.is_string()) fail(ErrorCode::malformed_file, "lora_parameters.keys: expected names");
      out.keys->push_back(key.get<std::string>());
    }
  }
  const char* const count = json.contains("num_layers") ? "num_layers" : "lora_layers";
  if (json.contains(count)) {
    if (!json[count].is_number_integer()) fail(ErrorCode::malformed_file, "num_layers: expected a number");
    out.layers = json[count].get<std::int64_t>();
  }
  if (json.contains("model") && json["model"].is_string()) out.base_model = json["model"].get<std::string>();
  return out;
}

}  // namespace

AdapterFile read_mlx(const std::filesystem::path& directory) {
  const MlxConfig config =
      parse_config(read_adapter_config(directory), quote_path(directory / "adapter_config.json"));
  const std::string file = quote_path(directory / "adapters.safetensors");
  const SafetensorsModel tensors = SafetensorsModel::open(directory / "adapters.safetensors");
  const auto fail = [&](ErrorCode code, std::string_view what, const std::string& why) {
    throw Error(code, file + ": " + quote(what) + ": " + why);
  };
  std::map<WeightId, LoraSource> sources;
  for (const StoredTensor& t : tensors.tensors()) {
    const std::size_t dot = t.name.rfind('.');
    const std::string_view name = std::string_view(t.name).substr(0, dot);
    const std::string_view part = std::string_view(t.name).substr(dot == std::string::npos ? 0 : dot + 1);
    if (part != "lora_a" && part != "lora_b" && part != "m")
      fail(ErrorCode::unsupported, t.name, "no part of a LoRA adapter");
    const WeightId id = adaptable(parse_weight_name(NameScheme::hugging_face, name), name, file, t.name);
    if (!config.names(id))
      fail(ErrorCode::unsupported, t.name, "lora_parameters.keys does not name the module");
    if (part == "m" && !config.dora) fail(ErrorCode::unsupported, t.name, "fine_tune_type is not dora");
    if (part == "m" && id.role == WeightRole::embedding)
      fail(ErrorCode::unsupported, t.name, "DoRA on the embedding is not supported");
    LoraSource& s = sources[id];
    s.id = id;
    s.scale = config.scale;
    s.a_rank_first = false;
    s.b_rank_first = true;
    (part == "lora_a" ? s.a : part == "lora_b" ? s.b : s.magnitude) = &t;
  }
  if (sources.empty()) fail(ErrorCode::malformed_file, "", "holds no tensors");
  std::vector<LoraSource> list;
  for (auto& [id, s] : sources) {
    const std::string name = module_name(id);
    if (!s.a || !s.b) fail(ErrorCode::malformed_file, name, "lacks lora_a or lora_b");
    if (config.dora && !s.magnitude)
      fail(ErrorCode::malformed_file, name, "fine_tune_type is dora, but there is no m");
    if (s.b->shape.empty() || s.b->shape[0] != config.rank)
      fail(ErrorCode::malformed_file, s.b->name,
           "rank " + std::to_string(s.b->shape.empty() ? 0 : s.b->shape[0]) +
               " where adapter_config.json says " + std::to_string(config.rank));
    list.push_back(std::move(s));
  }
  auto weights = LoraWeights::build(std::move(list), file, RotaryOrder::halves, {}, tensors.files());
  // Without keys mlx-lm adapts what the model's class says: then what is stored is what is meant.
  const ModuleTable named(*weights, [config, weights](WeightId id) {
    const bool of_model = id.role == WeightRole::embedding || id.role == WeightRole::lm_head;
    return config.keys ? config.names(id) : !of_model && weights->find(id) != nullptr;
  });
  return {"mlx", config.base_model, weights,
          [named, adapted = config.layers](std::uint32_t layer, std::uint32_t layers) {
            constexpr RoleSet kOfModel = role_bit(WeightRole::embedding) | role_bit(WeightRole::lm_head);
            return named(layer) &
                   (adapted < 1 || adapted >= std::int64_t{layers} - layer ? ~RoleSet{0} : kOfModel);
          }};
}

void write_mlx(const std::filesystem::path& directory, const LoraWeights& weights) {
  const LoraModule& first = weights.modules().front();
  std::vector<std::string> keys;
  std::size_t dora = 0;
  WrittenTensors out;
  for (const LoraModule& m : weights.modules()) {
    const LoraDelta& d = m.delta;
    const std::string name = module_name(m.id);
    const auto refuse = [&](const std::string& why) {
      throw Error(ErrorCode::unsupported, quote_path(directory) + ": " + name + ": mlx-lm " + why);
    };
    if (d.rows || !d.bias.empty()) refuse("keeps neither biases nor weights stored whole in an adapter");
    if (d.rank != first.delta.rank || d.scale != first.delta.scale)
      refuse("has one rank and one scale for all modules; this one's differ from those of " +
             module_name(first.id));
    const bool embedding = m.id.role == WeightRole::embedding;
    out.add_matrix(name + ".lora_a", d.type, d.a, embedding ? m.in : d.rank, embedding ? d.rank : m.in,
                   !embedding);
    out.add_b(name + ".lora_b", d, true);
    if (!m.magnitude.empty()) out.add_vector(name + ".m", m.magnitude);
    dora += !m.magnitude.empty();
    keys.push_back(key_of(m.id));
  }
  if (dora > 0 && dora != weights.modules().size())
    throw Error(ErrorCode::unsupported,
                quote_path(directory) + ": mlx-lm has DoRA on all modules or on none");
  std::ranges::sort(keys);
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  const OrderedJson config = {{"fine_tune_type", dora > 0 ? "dora" : "lora"},
                              {"num_layers", -1},
                              {"lora_parameters",
                               {{"rank", first.delta.rank},
                                {"dropout", 0.0},
                                {"scale", static_cast<double>(first.delta.scale)},
                                {"keys", keys}}}};
  make_adapter_directory(directory, "adapter_model.safetensors");
  write_safetensors(directory / "adapters.safetensors", out.tensors(), {{"format", "mlx"}});
  write_adapter_config(directory, config);
}

}  // namespace metal_candle
