#include "cli/train_settings.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <map>
#include <vector>

#include "cli/flags.h"
#include "cli/output.h"
#include "metal_candle/error.h"

namespace metal_candle::cli {
namespace {

// mlx-lm's names for what has another name here.
const std::map<std::string, std::string>& renamed() {
  static const std::map<std::string, std::string> names{{"adapter_path", "output"},
                                                        {"val_batches", "eval-batches"},
                                                        {"steps_per_eval", "eval-every"},
                                                        {"grad_accumulation_steps", "grad-accumulation"}};
  return names;
}

class Settings {
 public:
  Settings(CLI::App& app, std::string file) : app_(app), file_(std::move(file)) {}

  void apply() {
    YAML::Node root;
    const std::string text = read_text_file(file_);
    try {
      root = YAML::Load(text);
    } catch (const YAML::Exception& error) {
      fail(ErrorCode::malformed_file, "line " + std::to_string(error.mark.line + 1), error.msg);
    }
    if (!root.IsMap()) fail(ErrorCode::malformed_file, "the file", "expected keys and values");
    for (const auto& entry : root) key(entry.first.as<std::string>(), entry.second);
    if (scale_) give("alpha", std::to_string(rank_.value_or(8) * *scale_), "lora_parameters.scale");
  }

 private:
  [[noreturn]] void fail(ErrorCode code, const std::string& key, const std::string& why) const {
    throw Error(code, file_ + ": " + key + ": " + why);
  }

  template <typename T>
  T value(const YAML::Node& node, const std::string& key, const char* kind) const {
    try {
      return node.as<T>();
    } catch (const YAML::Exception&) {
      fail(ErrorCode::malformed_file, key, std::string("expected ") + kind);
    }
  }

  void key(const std::string& name, const YAML::Node& node) {
    if (node.IsNull()) return;
    if (name == "train") {
      if (!value<bool>(node, name, "true or false")) fail(ErrorCode::unsupported, name, "must be true here");
    } else if (name == "test") {
      if (value<bool>(node, name, "true or false"))
        fail(ErrorCode::unsupported, name, "there is no test run here; evaluate on valid.jsonl");
    } else if (name == "fine_tune_type") {
      fine_tune_type(value<std::string>(node, name, "a text"));
    } else if (name == "lora_parameters") {
      each(node, name, [&](const std::string& k, const YAML::Node& v) { lora_parameter(k, v); });
    } else if (name == "lr_schedule") {
      schedule(node);
    } else if (name == "optimizer_config") {
      each(node, name, [&](const std::string& optimizer, const YAML::Node& of) {
        if (of.IsNull() || of.size() == 0) return;
        each(of, name + "." + optimizer, [&](const std::string& k, const YAML::Node& v) {
          optimizer_value(k, v, name + "." + optimizer);
        });
      });
    } else {
      const auto other = renamed().find(name);
      std::string flag = other == renamed().end() ? name : other->second;
      std::ranges::replace(flag, '_', '-');
      give(flag, node, name);
    }
  }

  template <typename F>
  void each(const YAML::Node& node, const std::string& name, const F& f) {
    if (!node.IsMap()) fail(ErrorCode::malformed_file, name, "expected keys and values");
    for (const auto& entry : node) f(entry.first.as<std::string>(), entry.second);
  }

  void fine_tune_type(const std::string& type) {
    if (type == "dora") return give("dora", "true", "fine_tune_type");
    if (type == "full") return give("method", "full", "fine_tune_type");
    if (type != "lora") fail(ErrorCode::unsupported, "fine_tune_type", type + " is not lora, dora or full");
  }

  void lora_parameter(const std::string& name, const YAML::Node& node) {
    const std::string full = "lora_parameters." + name;
    if (name == "rank") {
      rank_ = value<double>(node, full, "a number");
      give("rank", node, full);
    } else if (name == "scale") {
      scale_ = value<double>(node, full, "a number");
    } else if (name == "dropout" || name == "alpha") {
      give(name, node, full);
    } else if (name == "keys") {
      give("target-modules", node, full);
    } else {
      fail(ErrorCode::unsupported, full, "is not known");
    }
  }

  // name, warmup, arguments: [rate, steps, end].
  void schedule(const YAML::Node& node) {
    each(node, "lr_schedule", [&](const std::string& k, const YAML::Node& v) {
      const std::string full = "lr_schedule." + k;
      if (k == "name") {
        const auto name = value<std::string>(v, full, "a text");
        if (name != "cosine_decay" && name != "linear_schedule")
          fail(ErrorCode::unsupported, full, name + " is not cosine_decay or linear_schedule");
        give("lr-schedule", name == "cosine_decay" ? "cosine" : "linear", full);
      } else if (k == "warmup") {
        give("warmup", v, full);
      } else if (k == "arguments") {
        const auto arguments = value<std::vector<double>>(v, full, "a list of numbers");
        if (!arguments.empty()) give("learning-rate", YAML::Node(v[0]), full);
        if (arguments.size() > 2 && arguments[2] != 0)
          fail(ErrorCode::unsupported, full, "the rate ends at 0 here, and at --iters");
      } else if (k != "warmup_init" || value<double>(v, full, "a number") != 0) {
        fail(ErrorCode::unsupported, full, "is not known; a warm-up begins at 0");
      }
    });
  }

  void optimizer_value(const std::string& name, const YAML::Node& node, const std::string& where) {
    const std::string full = where + "." + name;
    if (name == "betas") {
      if (!node.IsSequence() || node.size() != 2)
        fail(ErrorCode::malformed_file, full, "expected two numbers");
      give("beta1", node[0], full);
      give("beta2", node[1], full);
    } else if (name == "weight_decay") {
      give("weight-decay", node, full);
    } else {
      fail(ErrorCode::unsupported, full, "is not known");
    }
  }

  void give(const std::string& flag, const YAML::Node& node, const std::string& key) {
    if (node.IsSequence()) {
      std::string list;
      for (const YAML::Node& item : node)
        list += (list.empty() ? "" : ",") + value<std::string>(item, key, "a list of values");
      return give(flag, list, key);
    }
    give(flag, value<std::string>(node, key, "a value"), key);
  }

  void give(const std::string& flag, const std::string& text, const std::string& key) {
    CLI::Option* option = flag == "config" ? nullptr : app_.get_option_no_throw("--" + flag);
    if (!option) fail(ErrorCode::unsupported, key, "is not known");
    if (option->count() > 0) return;  // the command line's
    try {
      if (option->get_expected_max() == 0) {  // a switch
        if (text != "true" && text != "false") fail(ErrorCode::malformed_file, key, "expected true or false");
        if (text == "false") return;
      }
      option->add_result(text);
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      fail(ErrorCode::malformed_file, key, error.what());
    }
  }

  CLI::App& app_;
  std::string file_;
  std::optional<double> rank_, scale_;
};

}  // namespace

void apply_settings(CLI::App& app, const std::string& file) { Settings(app, file).apply(); }

}  // namespace metal_candle::cli
