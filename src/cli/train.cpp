// The verb train: from lines of examples to an adapter.
#include "metal_candle/train.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/train_progress.h"
#include "cli/train_settings.h"
#include "cli/verbs.h"
#include "metal_candle/model.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Data: a jsonl file, or a directory with train.jsonl and, for evaluation, valid.jsonl. A line is one of
  {"messages":[{"role":"user","content":"..."},{"role":"assistant","content":"..."}]}   perhaps with "tools"
  {"prompt":"...","completion":"..."}
  {"instruction":"...","input":"...","output":"..."}
  {"text":"..."}
A quantized base (GGUF, MLX) stays as it is while the adapter trains: QLoRA.

Examples:
  metal-candle train -m model.gguf -d data.jsonl -o style-lora --iters 200
  metal-candle train -m model -d data --mask-prompt --epochs 2 --eval-every 50 -o style-lora
  metal-candle train -m model -d data -o style-lora --rank 16 --target-modules q_proj,v_proj --dora
  metal-candle train -m model -d data -o style-lora --resume
  metal-candle train --config run.yaml --iters 50    mlx-lm's keys; flags win over the file
  metal-candle generate -m model.gguf --adapter style=style-lora -p "Hello")";

struct Flags {
  TrainingConfig config;
  std::string settings;  // file
  std::int64_t last_layers = -1;
  ReportFlags report;
  std::vector<std::string> targets;
  std::vector<std::uint32_t> layers;
  std::string method = "lora", optimizer = "adamw", schedule = "constant", init = "default", dtype = "f32";
};

void run(const Flags& flags) {
  TrainingConfig config = flags.config;
  if (!flags.targets.empty()) config.lora.target_modules = flags.targets;
  if (!flags.layers.empty()) config.lora.layers = flags.layers;
  if (flags.last_layers >= 0) {
    const std::uint32_t layers = inspect_model(config.model).layers;
    config.lora.layers.emplace();
    for (std::uint32_t i = 0; i < layers; ++i)
      if (i + flags.last_layers >= layers) config.lora.layers->push_back(i);
  }
  config.method = flags.method == "full"      ? TrainingMethod::full
                  : flags.method == "scratch" ? TrainingMethod::scratch
                                              : TrainingMethod::lora;
  using Optimizer = OptimizerConfig::Kind;
  config.optimizer.kind = flags.optimizer == "lion"        ? Optimizer::lion
                          : flags.optimizer == "adafactor" ? Optimizer::adafactor
                                                           : Optimizer::adamw;
  using Schedule = LRScheduler::Kind;
  config.schedule.kind = flags.schedule == "linear"          ? Schedule::linear
                         : flags.schedule == "cosine"        ? Schedule::cosine
                         : flags.schedule == "warmup-cosine" ? Schedule::warmup_cosine
                                                             : Schedule::constant;
  if (flags.init == "pissa") config.lora.init = LoRAConfig::Init::pissa;
  config.bf16 = flags.dtype == "bf16";

  Trainer trainer(config);
  say("[" + std::to_string(trainer.data().size()) + " examples" +
      (trainer.data().skipped_lines() > 0
           ? ", " + std::to_string(trainer.data().skipped_lines()) + " bad lines skipped"
           : "") +
      "; " + std::to_string(trainer.trainable_parameters()) + " trainable parameters; " +
      std::to_string(trainer.steps()) + " steps]");
  OnInterrupt interrupt({});
  TrainProgress progress(flags.report, config.output);
  const TrainingResult result =
      trainer.train({.on_step =
                         [&](const TrainingStep& step) {
                           progress.step(step);
                           return !interrupt.happened();
                         },
                     .on_evaluation = [&](const TrainingEvaluation& e) { progress.evaluation(e); }});
  progress.finish(result);
  if (interrupt.happened()) throw Error(ErrorCode::cancelled, "interrupted");
}

}  // namespace

void add_train(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  TrainingConfig& c = flags->config;
  CLI::App* app = program.add_subcommand("train", "Train a LoRA adapter, or a whole small model");
  app->footer(kFooter);
  const auto add = [&](const char* group, const char* names, auto& target, const char* help,
                       const char* type) {
    return app->add_option(names, target, help)->type_name(type)->group(group);
  };
  const auto choose = [&](const char* group, const char* names, std::string& target, const char* help,
                          std::vector<std::string> values) {
    std::string type;
    for (const std::string& value : values) type += (type.empty() ? "" : "|") + value;
    return app->add_option(names, target, help)
        ->check(CLI::IsMember(values).description(""))
        ->type_name(type)
        ->group(group);
  };
  add("Model", "-m,--model", c.model, "Base model, as for generate; scratch: config.json and tokenizer",
      "PATH");
  add("Model", "-o,--output", c.output, "Directory to write", "DIR");
  add("Model", "--config", flags->settings, "Settings in YAML, in mlx-lm's or these flags' names", "FILE");
  choose("Model", "--method", flags->method, "What is trained (default: lora)", {"lora", "full", "scratch"});
  choose("Model", "--format", c.format, "Of the adapter (default: peft)", {"peft", "mlx"});
  choose("Model", "--dtype", flags->dtype, "Products round operands to bf16, or not (default: f32)",
         {"f32", "bf16"});
  add_threads(*app, c.threads);

  add("Data", "-d,--data", c.data, "jsonl file, or directory with train.jsonl and valid.jsonl", "PATH");
  app->add_flag("--mask-prompt", c.mask_prompt, "Loss on completions and assistant turns only")
      ->group("Data");
  app->add_flag("--skip-bad-lines", c.skip_bad_lines, "Count bad lines instead of stopping")->group("Data");
  add("Data", "--max-seq-length", c.max_seq_length, "Cut longer examples (default: 2048)", "N")
      ->check(count_from(2));
  add("Data", "--batch-size", c.batch_size, "Examples of a batch (default: 4)", "N")->check(count_from(1));
  app->add_flag("--pack", c.pack, "Batches of as many examples as fit batch-size of the longest")
      ->group("Data");

  add("Adapter", "--rank", c.lora.rank, "Rank (default: 8)", "N")->check(count_from(1));
  add("Adapter", "--alpha", c.lora.alpha, "Scale times rank (default: 16)", "X");
  add("Adapter", "--dropout", c.lora.dropout, "Of the adapter's input (default: 0)", "P");
  add("Adapter", "--target-modules", flags->targets,
      "Endings of names, an expression, or all-linear (default)", "NAMES")
      ->delimiter(',');
  CLI::Option* layers =
      add("Adapter", "--layers", flags->layers, "Only these layers, e.g. 20,21,22", "LIST")->delimiter(',');
  add("Adapter", "--num-layers", flags->last_layers, "Only so many of the last layers; -1: all (default)",
      "N")
      ->excludes(layers);
  app->add_flag("--rslora", c.lora.rslora, "Scale by alpha / sqrt(rank)")->group("Adapter");
  app->add_flag("--dora", c.lora.dora, "Train magnitudes too")->group("Adapter");
  choose("Adapter", "--init", flags->init, "Where A and B begin (default: default)", {"default", "pissa"});

  add("Steps", "-i,--iters", c.iterations, "Optimizer steps (default: --epochs)", "N");
  add("Steps", "--epochs", c.epochs, "Passes over the data (default: 1)", "X");
  add("Steps", "--learning-rate", c.learning_rate, "Peak (default: 2e-4)", "X");
  choose("Steps", "--lr-schedule", flags->schedule, "Its course (default: constant)",
         {"constant", "linear", "cosine", "warmup-cosine"});
  add("Steps", "--warmup", c.schedule.warmup, "Steps that rise to the peak (default: 0)", "N");
  choose("Steps", "--optimizer", flags->optimizer, "Default: adamw", {"adamw", "adafactor", "lion"});
  add("Steps", "--beta1", c.optimizer.beta1, "Default: 0.9", "X");
  add("Steps", "--beta2", c.optimizer.beta2, "Default: 0.999", "X");
  add("Steps", "--weight-decay", c.optimizer.weight_decay, "Decoupled (default: 0)", "X");
  add("Steps", "--clip-norm", c.clip_norm, "Bound of the gradient's norm; 0: none (default)", "X");
  add("Steps", "--grad-accumulation", c.accumulation, "Batches of one step (default: 1)", "N")
      ->check(count_from(1));
  app->add_flag("--grad-checkpoint", c.checkpointing, "Compute activations again instead of keeping them")
      ->group("Steps");
  add("Steps", "--label-smoothing", c.label_smoothing, "Share of the uniform distribution (default: 0)", "X");
  add("Steps", "--seed", c.seed, "Same seed, same result (default: 0)", "N");

  add("Course", "--eval-every", c.eval_every,
      "Steps between evaluations on valid.jsonl (default: at the end)", "N");
  add("Course", "--eval-batches", c.eval_batches, "Batches of an evaluation; 0: all (default)", "N");
  add("Course", "--patience", c.patience, "Evaluations without progress after which to stop; 0: never", "N");
  add("Course", "--save-every", c.save_every, "Steps between checkpoints (default: at the end)", "N");
  app->add_flag("--resume", c.resume, "Go on from the output's checkpoint, if there is one")->group("Course");
  flags->report.add_to(*app);
  app->callback([flags, app] {
    if (!flags->settings.empty()) apply_settings(*app, flags->settings);
    for (const char* needed : {"--model", "--data", "--output"})
      if (app->get_option(needed)->count() == 0) throw CLI::RequiredError(needed);
    run(*flags);
  });
}

}  // namespace metal_candle::cli
