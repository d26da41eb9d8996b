// Fine-tuning: from a base model and lines of examples to an adapter that loads at once, here, in PEFT and in
// mlx-lm. What each setting means: docs/training.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "metal_candle/error.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// What PEFT calls LoraConfig.
struct LoRAConfig {
  std::uint32_t rank = 8;
  double alpha = 16;   ///< B·A is scaled by alpha / rank, or alpha / sqrt(rank) with rslora.
  double dropout = 0;  ///< Of the input of A, in training; below 1.
  bool rslora = false;
  bool dora = false;  ///< Trains a magnitude for each output too (arXiv:2402.09353).
  /// Endings of module names ("q_proj"), or one entry that is "all-linear" or an expression that matches
  /// whole names, if it holds a character that no name does.
  std::vector<std::string> target_modules = {"all-linear"};
  std::optional<std::vector<std::uint32_t>> layers;  ///< Only these; empty: all.
  enum class Init {
    peft,   ///< A uniform within 1/sqrt(in), B zero.
    pissa,  ///< The largest singular vectors of W (arXiv:2404.02948), minus which the base stays frozen.
  } init = Init::peft;
};

/// The learning rate of each step.
class LRScheduler {
 public:
  enum class Kind {
    constant,
    linear,        ///< Down to `final_share` at the end.
    cosine,        ///< Half a cosine down to `final_share` at the end.
    warmup_cosine  ///< The same; a tenth of the steps of warm-up unless `warmup` says otherwise.
  };
  Kind kind = Kind::constant;
  std::uint64_t warmup = 0;  ///< Steps that rise linearly from 0, before any kind.
  double final_share = 0;    ///< Of the rate, at the last step.

  /// The factor of step `step` (0-based) of `steps`.
  double factor(std::uint64_t step, std::uint64_t steps) const;
};

struct OptimizerConfig {
  enum class Kind { adamw, adafactor, lion } kind = Kind::adamw;
  double beta1 = 0.9, beta2 = 0.999;  ///< Lion's usual beta2 is 0.99.
  double epsilon = 1e-8;
  double weight_decay = 0;  ///< Decoupled.
};

enum class TrainingMethod {
  lora,     ///< Whatever the base is stored as: a quantized one makes it QLoRA.
  full,     ///< All weights; the output is a model.
  scratch,  ///< All weights, beginning at random ones: the model's directory needs no weights.
};

struct TrainingConfig {
  std::filesystem::path model;   ///< As Model::load takes it.
  std::filesystem::path data;    ///< A jsonl file, or a directory with train.jsonl and perhaps valid.jsonl.
  std::filesystem::path output;  ///< Directory of the adapter, made if needed; its checkpoints lie in it.
  TrainingMethod method = TrainingMethod::lora;
  LoRAConfig lora;
  OptimizerConfig optimizer;
  LRScheduler schedule;
  double learning_rate = 2e-4;
  std::uint64_t iterations = 0;    ///< Optimizer steps; 0: what `epochs` says.
  double epochs = 1;               ///< Used if iterations is 0.
  std::uint32_t batch_size = 4;    ///< Examples of one batch; with `pack`, as many as fit this many of the
                                   ///< longest.
  std::uint32_t accumulation = 1;  ///< Batches of one step.
  std::uint32_t max_seq_length = 2048;  ///< Tokens of an example; longer ones are cut.
  bool pack = false;
  bool mask_prompt = false;  ///< Loss on completions and assistant turns only.
  double label_smoothing = 0;
  double clip_norm = 0;        ///< Of all gradients together; 0: none.
  bool checkpointing = false;  ///< Gradient checkpointing: a third more arithmetic, a fraction of the memory.
  bool bf16 = false;           ///< Products round their operands to bfloat16; sums and parameters stay f32.
  std::uint64_t seed = 0;
  unsigned threads = 0;  ///< 0: as LoadOptions.

  std::uint64_t eval_every = 0;    ///< Steps; 0: at the end only. Needs validation data.
  std::uint64_t eval_batches = 0;  ///< 0: all.
  std::uint64_t patience = 0;      ///< Evaluations without a better loss after which to stop; 0: never.
  std::uint64_t save_every = 0;    ///< Steps between checkpoints; 0: at the end only.
  bool resume = false;             ///< Go on from output's checkpoint, if there is one.
  bool skip_bad_lines = false;
  std::string format = "peft";  ///< "peft" or "mlx".
};

/// One optimizer step.
struct TrainingStep {
  std::uint64_t step = 0, steps = 0;  ///< 1-based
  double loss = 0;                    ///< Mean of the step's tokens, nats.
  double learning_rate = 0;
  double gradient_norm = 0;          ///< Before clipping.
  std::uint64_t tokens = 0;          ///< Of this step, masked ones included.
  std::uint64_t trained_tokens = 0;  ///< Those with a loss.
  double seconds = 0;
  double epoch = 0;
};

struct TrainingEvaluation {
  std::uint64_t step = 0;
  double loss = 0;  ///< Mean over tokens, nats.
  std::uint64_t tokens = 0;
  bool best = false;
};

/// Called on the thread of Trainer::train.
struct TrainingCallbacks {
  std::function<bool(const TrainingStep&)> on_step = {};  ///< false: stop, keeping a checkpoint.
  std::function<void(const TrainingEvaluation&)> on_evaluation = {};
};

struct TrainingResult {
  std::uint64_t steps = 0;
  bool stopped = false;  ///< By on_step, or for want of progress.
  double loss = 0;       ///< Of the last step.
  std::optional<double> initial_evaluation, final_evaluation, best_evaluation;
  std::uint64_t trainable_parameters = 0;
};

/// One example: its tokens, and which of them count.
struct TrainingExample {
  std::vector<TokenId> tokens;
  std::vector<bool> counts;  ///< Same length: the loss of predicting this token is trained on.
};

/// Lines of examples, read from disk when asked for: only their places stay in memory. Thread-safe reading.
class Dataset {
 public:
  struct Options {
    bool mask_prompt = false;
    bool skip_bad_lines = false;
    std::uint32_t max_seq_length = 2048;
  };
  /// `file`: jsonl. Each line is an object with "messages" (and "tools"), "prompt" and "completion", "text",
  /// or "instruction", "input" and "output". `model` gives tokenizer and chat template. Checks every line.
  /// Throws Error(not_found | malformed_file) naming file and line; Error(unsupported) without a tokenizer.
  Dataset(const std::filesystem::path& file, const std::filesystem::path& model, const Options& options);
  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;

  std::size_t size() const noexcept;
  std::uint64_t skipped_lines() const noexcept;  ///< Bad ones.
  /// The example of line `index` of the good ones. Throws Error(malformed_file) if it has none after all.
  TrainingExample at(std::size_t index) const;

 private:
  friend class Trainer;
  class Impl;
  explicit Dataset(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Trains one adapter or model. One thread drives it; the work runs on the process's compute pool.
class Trainer {
 public:
  /// Opens model and data and checks everything. Throws Error(invalid_argument | not_found | malformed_file |
  /// unsupported).
  explicit Trainer(const TrainingConfig& config);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  std::uint64_t trainable_parameters() const noexcept;
  std::uint64_t steps() const noexcept;  ///< Of the whole run.
  const Dataset& data() const noexcept;

  /// Runs to the end, or until on_step says stop, and writes the output.
  TrainingResult train(const TrainingCallbacks& callbacks = {});

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace metal_candle
