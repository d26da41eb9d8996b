#include "adapters/lora_config.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "io/quote.h"

namespace metal_candle {
namespace {

// Fields that say how an adapter came to be, not what it computes.
constexpr std::array kOfTraining = {"task_type",      "auto_mapping",   "peft_version",  "revision",
                                    "inference_mode", "lora_dropout",   "loftq_config",  "eva_config",
                                    "corda_config",   "lora_ga_config", "megatron_core", "qalora_group_size",
                                    "runtime_config", "fan_in_fan_out"};  // of a base of Conv1D; ours are
                                                                          // linear, as PEFT notes

// Fields read below.
constexpr std::array kRead = {"peft_type",
                              "base_model_name_or_path",
                              "r",
                              "lora_alpha",
                              "use_rslora",
                              "use_dora",
                              "lora_bias",
                              "rank_pattern",
                              "alpha_pattern",
                              "target_modules",
                              "exclude_modules",
                              "modules_to_save",
                              "layers_to_transform",
                              "layers_pattern",
                              "trainable_token_indices",
                              "init_lora_weights",
                              "bias"};

bool is_off(const OrderedJson& v) {
  return v.is_null() || (v.is_boolean() && !v.get<bool>()) || ((v.is_array() || v.is_object()) && v.empty());
}

// No weight has a side as long as the largest.
bool is_rank(double r) { return r >= 1 && r <= 1 << 30 && r == std::floor(r); }

// Names are short: what needs more steps than this was made to need them.
constexpr std::uint32_t kSteps = 100'000;

Regex compile(const std::string& expression, const std::string& name) try {
  return Regex(expression, kSteps);
} catch (const Error& error) {
  throw Error(error.code(), name + " is no expression that can be honoured");
}

bool contains(const auto& list, const std::string& key) {
  return std::ranges::any_of(list, [&](const char* name) { return key == name; });
}

}  // namespace

FullMatch::FullMatch(const std::string& expression, const std::string& where)
    : name_(where + ": " + quote(expression)), regex_(compile("\\A(?:" + expression + ")\\z", name_)) {}

bool FullMatch::operator()(std::string_view text) const try {
  return Regex::Search(regex_, text).next();
} catch (const Error& error) {
  throw Error(error.code(), name_ + " takes too many steps on " + quote(text));
}

void LoraConfig::fail(ErrorCode code, const std::string& field, const std::string& why) const {
  throw Error(code, file_ + ": " + field + ": " + why);
}

LoraConfig LoraConfig::parse(std::string_view text, const std::string& file) {
  parse_json(text, file, {.unique_keys = true});  // depth, syntax and keys are sound from here on
  const OrderedJson json = OrderedJson::parse(text.begin(), text.end());
  LoraConfig out(file);
  if (!json.is_object()) throw Error(ErrorCode::malformed_file, file + ": expected a JSON object");
  out.read(json);
  return out;
}

void LoraConfig::refuse_what_is_not_honoured(const OrderedJson& json) const {
  for (const auto& [key, value] : json.items()) {
    if (contains(kOfTraining, key) || contains(kRead, key) || is_off(value)) continue;
    fail(ErrorCode::unsupported, quote(key),
         "this field is not honoured, and ignoring it would change the result");
  }
  const auto text = [&](const char* key, const char* fallback) {
    if (!json.contains(key) || json[key].is_null()) return std::string(fallback);
    if (!json[key].is_string()) fail(ErrorCode::malformed_file, key, "expected a text");
    return json[key].get<std::string>();
  };
  if (const std::string type = text("peft_type", ""); type != "LORA")
    fail(ErrorCode::unsupported, "peft_type", quote(type) + " is not LORA");
  if (const std::string bias = text("bias", "none"); bias != "none")
    fail(ErrorCode::unsupported, "bias",
         quote(bias) + " changes biases of the base; only \"none\" is honoured");
  if (json.contains("init_lora_weights") && json["init_lora_weights"].is_string()) {
    // Those that leave the base as it is; pissa, olora, corda, loftq and lora_ga subtract from it.
    const std::string init = text("init_lora_weights", "");
    if (init != "gaussian" && init != "eva" && init != "orthogonal")
      fail(ErrorCode::unsupported, "init_lora_weights",
           quote(init) + " changed the base when training began; convert the adapter to plain LoRA in PEFT");
  }
}

void LoraConfig::read(const OrderedJson& json) {
  refuse_what_is_not_honoured(json);
  const auto number = [&](const char* key, double& out) {
    if (!json.contains(key)) return;
    if (!json[key].is_number()) fail(ErrorCode::malformed_file, key, "expected a number");
    out = json[key].get<double>();
  };
  const auto flag = [&](const char* key, bool& out) {
    if (!json.contains(key) || json[key].is_null()) return;
    if (!json[key].is_boolean()) fail(ErrorCode::malformed_file, key, "expected true or false");
    out = json[key].get<bool>();
  };
  const auto texts = [&](const char* key) {
    std::vector<std::string> out;
    if (!json.contains(key) || json[key].is_null()) return out;
    if (json[key].is_string()) return std::vector{json[key].get<std::string>()};
    if (!json[key].is_array()) fail(ErrorCode::malformed_file, key, "expected a list of names");
    for (const OrderedJson& name : json[key]) {
      if (!name.is_string()) fail(ErrorCode::malformed_file, key, "expected a list of names");
      out.push_back(name.get<std::string>());
    }
    return out;
  };
  number("r", r_);
  if (!is_rank(r_)) fail(ErrorCode::malformed_file, "r", "expected a rank of 1 or more");
  number("lora_alpha", alpha_);
  flag("use_rslora", use_rslora_);
  flag("use_dora", use_dora_);
  flag("lora_bias", lora_bias_);
  rank_pattern_ = patterns(json, "rank_pattern");
  for (const auto& [matches, r] : rank_pattern_)
    if (!is_rank(r)) fail(ErrorCode::malformed_file, "rank_pattern", "expected ranks of 1 or more");
  alpha_pattern_ = patterns(json, "alpha_pattern");
  target_ = modules(json, "target_modules");
  exclude_ = modules(json, "exclude_modules");
  for (const std::string& name : texts("modules_to_save"))
    saved_.emplace_back("(.*\\.)?" + name + "(\\..*)?", file_ + ": modules_to_save");
  for (const std::string& pattern : texts("layers_pattern"))
    layers_patterns_.push_back(compile("\\A(?:.*?\\.)?(?:" + pattern + ")\\.(?=[0-9]+\\.)",
                                       file_ + ": layers_pattern: " + quote(pattern)));
  if (json.contains("layers_to_transform") && !json["layers_to_transform"].is_null()) {
    const OrderedJson& value = json["layers_to_transform"];
    const auto add = [&](const OrderedJson& layer) {
      if (!layer.is_number_integer())
        fail(ErrorCode::malformed_file, "layers_to_transform", "expected layers");
      layers_->push_back(layer.get<std::int64_t>());
    };
    layers_.emplace();
    if (value.is_array())
      for (const OrderedJson& layer : value) add(layer);
    else
      add(value);
    if (layers_->empty()) layers_.reset();  // as PEFT reads it
  }
  if (json.contains("trainable_token_indices") && !json["trainable_token_indices"].is_null()) {
    const OrderedJson& value = json["trainable_token_indices"];
    const auto ids = [&](const OrderedJson& list) {
      std::vector<std::uint32_t> out;
      if (!list.is_array()) fail(ErrorCode::malformed_file, "trainable_token_indices", "expected token ids");
      for (const OrderedJson& id : list) {
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= 1u << 30)
          fail(ErrorCode::malformed_file, "trainable_token_indices", "expected token ids");
        out.push_back(id.get<std::uint32_t>());
      }
      // PEFT stores the rows in the order of this list.
      if (std::ranges::adjacent_find(out, std::greater_equal{}) != out.end())
        fail(ErrorCode::unsupported, "trainable_token_indices", "the ids must ascend and differ");
      return out;
    };
    if (value.is_object())
      for (const auto& [name, list] : value.items()) trainable_tokens_.emplace_back(name, ids(list));
    else
      trainable_tokens_.emplace_back("embed_tokens", ids(value));
  }
  if (json.contains("base_model_name_or_path") && json["base_model_name_or_path"].is_string())
    base_model_ = json["base_model_name_or_path"].get<std::string>();
  if (lora_bias_ && use_dora_) fail(ErrorCode::unsupported, "lora_bias", "PEFT has no DoRA with a bias");
}

std::vector<LoraConfig::Pattern> LoraConfig::patterns(const OrderedJson& json, const char* key) const {
  std::vector<Pattern> out;
  if (!json.contains(key) || json[key].is_null()) return out;
  if (!json[key].is_object()) fail(ErrorCode::malformed_file, key, "expected an object");
  for (const auto& [name, value] : json[key].items()) {
    if (!value.is_number() || !(value.get<double>() > 0))
      fail(ErrorCode::malformed_file, key, quote(name) + " is not given a positive number");
    out.emplace_back(FullMatch("(.*\\.)?(" + name + ")", file_ + ": " + key), value.get<double>());
  }
  return out;
}

LoraConfig::Modules LoraConfig::modules(const OrderedJson& json, const char* key) const {
  Modules out;
  if (!json.contains(key) || json[key].is_null()) return out;
  const OrderedJson& value = json[key];
  if (value.is_string()) {
    std::string text = value.get<std::string>();
    std::string lower = text;
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    out.all_linear = lower == "all-linear";
    if (out.all_linear) return out;
    compile(text, file_ + ": " + key + ": " + quote(text));  // alone: no bracket may close the one around it
    out.expression.emplace(text, file_ + ": " + key);
    return out;
  }
  if (!value.is_array()) fail(ErrorCode::malformed_file, key, "expected a list of names or an expression");
  for (const OrderedJson& name : value) {
    if (!name.is_string()) fail(ErrorCode::malformed_file, key, "expected a list of names or an expression");
    out.names.push_back(name.get<std::string>());
  }
  return out;
}

bool LoraConfig::Modules::match(std::string_view module) const {
  if (expression) return (*expression)(module);
  return std::ranges::any_of(
      names, [&](const std::string& name) { return module == name || module.ends_with("." + name); });
}

std::size_t LoraConfig::rank(std::string_view module) const {
  for (const auto& [matches, r] : rank_pattern_)
    if (matches(module)) return static_cast<std::size_t>(r);
  return static_cast<std::size_t>(r_);
}

double LoraConfig::scale(std::string_view module) const {
  double alpha = alpha_;
  for (const auto& [matches, value] : alpha_pattern_) {
    if (!matches(module)) continue;
    alpha = value;
    break;
  }
  const auto r = static_cast<double>(rank(module));
  return alpha / (use_rslora_ ? std::sqrt(r) : r);
}

bool LoraConfig::saves(std::string_view module) const {
  return std::ranges::any_of(saved_, [&](const FullMatch& matches) { return matches(module); });
}

bool LoraConfig::targets(std::string_view module, bool output, bool embedding) const {
  if (exclude_.match(module) || saves(module)) return false;
  if (target_.all_linear) return !output && !embedding;
  if (!target_.match(module)) return false;
  // PEFT asks for the layer only of modules named by their ending.
  const bool whole_name = std::ranges::find(target_.names, module) != target_.names.end();
  return target_.expression || whole_name || in_layers(module);
}

bool LoraConfig::in_layers(std::string_view module) const {
  if (!layers_) return true;
  // The first number between dots that has a name before it, or the first after one of the patterns.
  static const Regex any_pattern("\\A.*?\\.[^.]*\\.(?=[0-9]+\\.)");
  const auto layer_after = [&](const Regex& prefix) -> std::optional<std::int64_t> {
    Regex::Search search(prefix, module);
    std::int64_t layer = 0;
    if (!search.next()) return std::nullopt;
    const char* begin = module.data() + search.end();
    if (std::from_chars(begin, module.data() + module.size(), layer).ec != std::errc()) return std::nullopt;
    return layer;
  };
  std::optional<std::int64_t> layer;
  if (layers_patterns_.empty()) layer = layer_after(any_pattern);
  for (const Regex& pattern : layers_patterns_)
    if (!layer) layer = layer_after(pattern);
  return layer && std::ranges::find(*layers_, *layer) != layers_->end();
}

std::vector<std::uint32_t> LoraConfig::trainable_tokens(std::string_view module) const {
  for (const auto& [name, ids] : trainable_tokens_)
    if (module == name || module.ends_with("." + name)) return ids;
  return {};
}

}  // namespace metal_candle
