// The verb adapter: looking at adapters and making others of them.
#include <memory>
#include <string>

#include "cli/adapter_flags.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "metal_candle/model.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Examples:
  metal-candle adapter inspect style-lora
  metal-candle adapter convert style.gguf --model model.gguf --to peft -o style-lora
  metal-candle adapter convert style-lora --model model.gguf --to gguf -o style.gguf
  metal-candle adapter merge -m model.gguf --adapter style=style-lora:0.8 -o merged.gguf
  metal-candle adapter mix --adapter a=style-lora --adapter b=facts-lora:0.5 --method svd --rank 16 -o both
  metal-candle adapter diff style-lora other-lora)";

struct Flags {
  AdapterFlags adapters;
  std::string path, other, model, output, type, format = "peft", method = "cat";
  MixOptions mix;
  bool json = false;
};

OrderedJson to_json(const AdapterInfo& info) {
  OrderedJson modules = OrderedJson::array();
  for (const AdapterModule& m : info.modules)
    modules.push_back({{"name", m.name},
                       {"kind", m.kind},
                       {"rank", m.rank},
                       {"scale", number(m.scale)},
                       {"bytes", m.bytes}});
  return {{"path", info.path}, {"format", info.format}, {"base_model", info.base_model}, {"hash", info.hash},
          {"rank", info.rank}, {"bytes", info.bytes},   {"modules", std::move(modules)}};
}

void inspect(const Flags& flags) {
  const AdapterInfo info = Adapter::load(flags.path)->info();
  if (flags.json) return write_json_line(to_json(info));
  std::string out = "file        " + info.path + "\nformat      " + info.format + ", " +
                    human_bytes(info.bytes) + "\nhash        " + info.hash + "\nmodules     " +
                    std::to_string(info.modules.size()) + ", rank up to " + std::to_string(info.rank) + "\n";
  for (const AdapterModule& m : info.modules) {
    out += "  " + m.name + "  " + m.kind;
    if (m.rank > 0) out += "  rank " + std::to_string(m.rank) + "  scale " + fixed(m.scale, 4);
    out += "\n";
  }
  write_result(out);
}

AdapterBase base_of(const Flags& flags) {
  if (flags.model.empty()) return {};
  const ModelInfo model = inspect_model(flags.model);
  return {model.architecture, model.head_dim};
}

void convert(const Flags& flags) {
  Adapter::load(flags.path)->save(flags.output, flags.format, base_of(flags));
}

void merge(const Flags& flags) {
  const MergeReport report = merge_adapters(flags.model, flags.adapters.load(), flags.output, {flags.type});
  say("[" + std::to_string(report.modules) + " weights changed; rounding to their element type lost " +
      fixed(100 * report.rounding_error, 2) + "% of the change, " + fixed(100 * report.relative_error, 4) +
      "% of the weights]");
}

MixMethod method_of(const std::string& name) {
  if (name == "linear") return MixMethod::linear;
  if (name == "svd") return MixMethod::svd;
  if (name == "ties") return MixMethod::ties;
  return name == "dare_ties" ? MixMethod::dare_ties : MixMethod::cat;
}

void mix(const Flags& flags) {
  MixOptions options = flags.mix;
  options.method = method_of(flags.method);
  mix_adapters(flags.adapters.load(), options)->save(flags.output, flags.format, base_of(flags));
}

void diff(const Flags& flags) {
  const auto first = Adapter::load(flags.path), second = Adapter::load(flags.other);
  const auto differences = compare_adapters(*first, *second);
  if (flags.json) {
    OrderedJson modules = OrderedJson::array();
    for (const AdapterDifference& d : differences)
      modules.push_back(
          {{"name", d.module}, {"first", d.first}, {"second", d.second}, {"difference", d.difference}});
    return write_json_line(
        {{"same", first->info().hash == second->info().hash}, {"modules", std::move(modules)}});
  }
  std::string out = first->info().hash == second->info().hash ? "the same content\n" : "";
  for (const AdapterDifference& d : differences)
    out += d.module + "  " + fixed(d.first, 4) + " and " + fixed(d.second, 4) + ", apart by " +
           fixed(d.difference, 4) + "\n";
  write_result(out);
}

CLI::App* add_action(CLI::App& verb, const char* name, const char* help, const std::shared_ptr<Flags>& flags,
                     void (*action)(const Flags&)) {
  CLI::App* app = verb.add_subcommand(name, help);
  app->callback([flags, action] { action(*flags); });
  return app;
}

}  // namespace

void add_adapter(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      program.add_subcommand("adapter", "Inspect, convert, merge, mix and compare LoRA adapters");
  verb->require_subcommand(1);
  verb->footer(kFooter);
  const auto output = [&](CLI::App* app) {
    app->add_option("-o,--output", flags->output, "Directory to write; for GGUF the file")
        ->required()
        ->type_name("PATH");
  };
  const auto format = [&](CLI::App* app) {
    app->add_option("--to", flags->format, "Format to write (default: peft)")
        ->check(CLI::IsMember({"peft", "mlx", "gguf"}).description(""))
        ->type_name("peft|mlx|gguf");
    app->add_option("-m,--model", flags->model, "Its model: needed to read or write GGUF adapters")
        ->type_name("PATH");
  };
  CLI::App* app = add_action(*verb, "inspect", "What an adapter says of itself", flags, inspect);
  app->add_option("PATH", flags->path, "Adapter")->required()->type_name("");
  app->add_flag("--json", flags->json, "One JSON object");

  app = add_action(*verb, "convert", "Write an adapter in another format", flags, convert);
  app->add_option("PATH", flags->path, "Adapter")->required()->type_name("");
  format(app);
  output(app);

  app = add_action(*verb, "merge", "Write a model with adapters in its weights", flags, merge);
  app->add_option("-m,--model", flags->model, "GGUF file or Hugging Face directory")
      ->required()
      ->type_name("PATH");
  flags->adapters.add_to(*app);
  app->get_option("--adapter")->required();
  app->add_option("--type", flags->type, "Element type of the weights that change (default: their own)")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"}).description(""))
      ->type_name("f32|f16|bf16|q8_0|q5_1|q5_0|q4_1|q4_0");
  output(app);

  app = add_action(*verb, "mix", "Make one adapter of several", flags, mix);
  flags->adapters.add_to(*app);
  app->get_option("--adapter")->required();
  app->add_option("--method", flags->method, "How (default: cat, exactly the weighted sum)")
      ->check(CLI::IsMember({"cat", "linear", "svd", "ties", "dare_ties"}).description(""))
      ->type_name("cat|linear|svd|ties|dare_ties");
  app->add_option("--rank", flags->mix.rank, "Rank of svd (default: the adapters' largest)")->type_name("N");
  app->add_option("--density", flags->mix.density,
                  "Share of values that ties and dare_ties keep (default: 1)")
      ->type_name("P");
  app->add_option("--seed", flags->mix.seed, "Seed of dare_ties (default: 0)")->type_name("N");
  format(app);
  output(app);

  app = add_action(*verb, "diff", "How far two adapters are apart, module by module", flags, diff);
  app->add_option("FIRST", flags->path, "Adapter")->required()->type_name("");
  app->add_option("SECOND", flags->other, "Adapter")->required()->type_name("");
  app->add_flag("--json", flags->json, "One JSON object");
}

}  // namespace metal_candle::cli
