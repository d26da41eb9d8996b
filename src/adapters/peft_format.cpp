// PEFT's directories: adapter_config.json and adapter_model.safetensors, keys
// base_model.model.<module>.lora_A.weight and so on.
#include <algorithm>
#include <map>
#include <set>

#include "adapters/format_common.h"
#include "adapters/formats.h"
#include "adapters/lora_config.h"
#include "adapters/written_tensors.h"
#include "io/quote.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"

namespace metal_candle {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";

enum class Part { a, b, bias, magnitude, embedding_a, embedding_b, base_copy, tokens, saved };

struct Suffix {
  std::string_view text;
  Part part;
};
// The longer of two that fit stands first.
constexpr Suffix kSuffixes[] = {
    {".lora_A.weight", Part::a},
    {".lora_B.weight", Part::b},
    {".lora_B.bias", Part::bias},
    {".lora_magnitude_vector.weight", Part::magnitude},
    {".lora_magnitude_vector", Part::magnitude},
    {".lora_embedding_A", Part::embedding_a},
    {".lora_embedding_B", Part::embedding_b},
    {".base_layer.weight", Part::base_copy},
    {".token_adapter.trainable_tokens_delta", Part::tokens},
    {".weight", Part::saved},
};

[[noreturn]] void refuse(const std::string& file, const StoredTensor& t, const std::string& why) {
  throw Error(ErrorCode::unsupported, file + ": " + quote(t.name) + ": " + why);
}

// One tensor, and what its name says.
struct NamedTensor {
  const StoredTensor* tensor;
  std::string_view module;
  Part part;
};

NamedTensor named(const StoredTensor& t, const std::string& file) {
  std::string_view name = t.name;
  if (!name.starts_with(kPrefix)) refuse(file, t, "expected a name that begins with " + std::string(kPrefix));
  name.remove_prefix(kPrefix.size());
  const auto suffix =
      std::ranges::find_if(kSuffixes, [&](const Suffix& s) { return name.ends_with(s.text); });
  if (suffix == std::end(kSuffixes)) refuse(file, t, "no part of a LoRA adapter");
  name.remove_suffix(suffix->text.size());
  return {&t, name, suffix->part};
}

bool targets(const LoraConfig& config, const ModuleNames& names, WeightId id) {
  const std::string name = names.name(id);
  return !name.empty() &&
         config.targets(name, id.role == WeightRole::lm_head, id.role == WeightRole::embedding);
}

// Whose names the modules have. Of architectures that share some of them, one whose layer has as many targets
// as the file has modules there, or else the first.
ModuleNames names_of(const std::vector<NamedTensor>& tensors, const LoraConfig& config) {
  std::vector<std::string_view> modules;
  for (const NamedTensor& t : tensors) modules.push_back(t.module);
  const std::vector<ModuleNames> fitting = ModuleNames::that_fit(modules);
  if (fitting.size() <= 1) return fitting.empty() ? ModuleNames() : fitting.front();
  for (const ModuleNames& names : fitting) {
    const std::uint32_t layer = names.parse(modules.front())->layer;
    bool all = true;
    for (unsigned role = 0; role < kWeightRoles; ++role) {
      const WeightId id{static_cast<WeightRole>(role), layer};
      if (!is_of_layer(id.role)) continue;
      all &= targets(config, names, id) == (std::ranges::find(modules, names.name(id)) != modules.end());
    }
    if (all) return names;
  }
  return fitting.front();
}

class PeftReader {
 public:
  PeftReader(const LoraConfig& config, const ModuleNames& names, std::string file)
      : config_(config), names_(names), file_(std::move(file)) {}

  void add(const NamedTensor& named) {
    const StoredTensor& t = *named.tensor;
    const std::string_view name = named.module;
    const WeightId id = adaptable(names_.parse(name), name, file_, t.name);
    LoraSource& s = sources_[id];
    s.id = id;
    const bool embedding = id.role == WeightRole::embedding;
    switch (named.part) {
      case Part::a: return set(s.a, t, !embedding);
      case Part::b: return set(s.b, t, !embedding);
      case Part::embedding_a: return set(s.a, t, embedding);
      case Part::embedding_b: return set(s.b, t, embedding);
      case Part::bias: return set(s.bias, t, config_.lora_bias());
      case Part::magnitude:
        if (embedding) refuse(file_, t, "DoRA on the embedding is not supported");
        return set(s.magnitude, t, config_.use_dora());
      case Part::base_copy: s.base_copy = true; return set(s.rows, t, embedding);
      case Part::saved: return set(s.rows, t, config_.saves(name));
      case Part::tokens:
        s.replaced = config_.trainable_tokens(name);
        return set(s.rows, t, !s.replaced.empty());
    }
  }

  std::vector<LoraSource> finish() {
    std::vector<LoraSource> out;
    for (auto& [id, s] : sources_) {
      const std::string name = names_.name(id);
      const auto fail = [&](const std::string& why) {
        throw Error(ErrorCode::malformed_file, file_ + ": " + name + ": " + why);
      };
      if (!s.a != !s.b) fail(s.a ? "has A but no B" : "has B but no A");
      if (s.bias && !s.a) fail("has a bias but no matrices");
      if (s.a) {
        s.scale = config_.scale(name);
        const std::size_t got = s.a->shape.empty() ? 0 : s.a->shape[0];
        if (got != config_.rank(name))
          fail("A has rank " + std::to_string(got) + " where adapter_config.json says " +
               std::to_string(config_.rank(name)));
        if (config_.use_dora() && !s.magnitude)
          fail("use_dora is set, but there is no lora_magnitude_vector");
        if (config_.lora_bias() && !s.bias && id.role != WeightRole::embedding)
          fail("lora_bias is set, but there is no lora_B.bias");
      } else if (s.magnitude) {
        fail("has a magnitude but no matrices");
      }
      out.push_back(std::move(s));
    }
    if (out.empty()) throw Error(ErrorCode::malformed_file, file_ + ": holds no tensors");
    return out;
  }

 private:
  void set(const StoredTensor*& slot, const StoredTensor& t, bool expected) {
    if (!expected) refuse(file_, t, "not what adapter_config.json says of this module");
    if (slot) refuse(file_, t, "the module is given this part twice");
    slot = &t;
  }

  const LoraConfig& config_;
  const ModuleNames& names_;
  std::string file_;
  std::map<WeightId, LoraSource> sources_;
};

}  // namespace

AdapterFile read_peft(const std::filesystem::path& directory) {
  const std::string config_file = quote_path(directory / "adapter_config.json");
  auto config =
      std::make_shared<const LoraConfig>(LoraConfig::parse(read_adapter_config(directory), config_file));
  const std::string file = quote_path(directory / "adapter_model.safetensors");
  const SafetensorsModel tensors = SafetensorsModel::open(directory / "adapter_model.safetensors");
  std::vector<NamedTensor> named_tensors;
  for (const StoredTensor& t : tensors.tensors()) named_tensors.push_back(named(t, file));
  const ModuleNames names = names_of(named_tensors, *config);
  PeftReader reader(*config, names, file);
  for (const NamedTensor& t : named_tensors) reader.add(t);
  auto weights = LoraWeights::build(reader.finish(), file, RotaryOrder::halves, names, tensors.files());
  const ModuleTable table(*weights, [config, names](WeightId id) { return targets(*config, names, id); });
  return {"peft", config->base_model(), std::move(weights),
          [table](std::uint32_t layer, std::uint32_t) { return table(layer); }};
}

void write_peft(const std::filesystem::path& directory, const LoraWeights& weights,
                const std::string& base_model) {
  OrderedJson ranks = OrderedJson::object(), alphas = OrderedJson::object(), tokens = OrderedJson::object();
  std::vector<std::string> targets, saved;
  std::size_t dora = 0, biased = 0, r = 1;
  double alpha = 1;
  WrittenTensors out;
  for (const LoraModule& m : weights.modules()) {
    const LoraDelta& d = m.delta;
    const std::string name = weights.name(m.id), key = std::string(kPrefix) + name;
    const bool embedding = m.id.role == WeightRole::embedding;
    if (d.rank > 0) {
      const double module_alpha = static_cast<double>(d.scale) * static_cast<double>(d.rank);
      if (targets.empty()) {
        r = d.rank;
        alpha = module_alpha;
      }
      const std::string pattern = "^" + escape_regex(name);
      if (d.rank != r) ranks[pattern] = d.rank;
      if (module_alpha != alpha) alphas[pattern] = module_alpha;
      targets.push_back(name);
      out.add_matrix(key + (embedding ? ".lora_embedding_A" : ".lora_A.weight"), d.type, d.a,
                     embedding ? m.in : d.rank, embedding ? d.rank : m.in, embedding);
      out.add_b(key + (embedding ? ".lora_embedding_B" : ".lora_B.weight"), d, false);
    }
    if (!m.magnitude.empty()) out.add_vector(key + ".lora_magnitude_vector", m.magnitude);
    if (!d.bias.empty()) out.add_vector(key + ".lora_B.bias", d.bias);
    dora += !m.magnitude.empty();
    biased += !d.bias.empty();
    if (!d.rows) continue;
    const std::size_t width = embedding ? m.out : m.in;
    if (m.base_copy) {
      out.add_matrix(key + ".base_layer.weight", d.type, d.rows, m.in, width, false);
    } else if (d.replaced.empty()) {
      saved.push_back(name);
      out.add_matrix(key + ".weight", d.type, d.rows, embedding ? m.in : m.out, width, false);
    } else {
      tokens[name] = std::vector<std::uint32_t>(d.replaced.begin(), d.replaced.end());
      out.add_matrix(key + ".token_adapter.trainable_tokens_delta", d.type, d.rows, d.replaced.size(), width,
                     false);
    }
  }
  if ((dora > 0 && dora != targets.size()) || (biased > 0 && biased != targets.size()))
    throw Error(
        ErrorCode::unsupported,
        quote_path(directory) + ": PEFT has DoRA or a bias on all modules or on none; this adapter mixes");
  const auto or_null = [](auto&& value) { return value.empty() ? OrderedJson(nullptr) : OrderedJson(value); };
  const OrderedJson config = {{"peft_type", "LORA"},
                              {"task_type", weights.names().encoder() ? "FEATURE_EXTRACTION" : "CAUSAL_LM"},
                              {"base_model_name_or_path", or_null(base_model)},
                              {"inference_mode", true},
                              {"r", r},
                              {"lora_alpha", alpha},
                              {"lora_dropout", 0.0},
                              {"bias", "none"},
                              {"use_rslora", false},
                              {"use_dora", dora > 0},
                              {"lora_bias", biased > 0},
                              {"fan_in_fan_out", false},
                              {"init_lora_weights", true},
                              {"target_modules", targets},
                              {"modules_to_save", or_null(saved)},
                              {"rank_pattern", ranks},
                              {"alpha_pattern", alphas},
                              {"trainable_token_indices", or_null(tokens)}};
  make_adapter_directory(directory, "adapters.safetensors");
  write_safetensors(directory / "adapter_model.safetensors", out.tensors(), {{"format", "pt"}});
  write_adapter_config(directory, config);
}

}  // namespace metal_candle
