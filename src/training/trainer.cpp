// The run: batches in, steps, evaluations, checkpoints, and the result on disk.
#include <chrono>
#include <cmath>

#include "io/directory.h"
#include "io/quote.h"
#include "kernels/compute_pool.h"
#include "training/batcher.h"
#include "training/dataset_impl.h"
#include "training/dropout.h"
#include "training/export.h"
#include "training/model_files.h"
#include "training/optimizer.h"
#include "training/training_state.h"

namespace metal_candle {
namespace {

using Clock = std::chrono::steady_clock;

// Frozen weights stay packed for 16-bit products, forward and back, where that takes no more than this.
constexpr std::uint64_t kMostPanelBytes = std::uint64_t{2} << 30, kPanelBytes = 2 * sizeof(std::uint16_t);

void check(bool ok, const std::string& what) {
  if (!ok) throw Error(ErrorCode::invalid_argument, what);
}

TrainingConfig checked(TrainingConfig c) {
  check(!c.output.empty(), "output: name a directory for the result");
  check(c.batch_size > 0, "batch size must be at least 1");
  check(c.accumulation > 0, "gradient accumulation must be at least 1");
  check(c.max_seq_length >= 2, "the longest sequence must be at least 2");
  check(std::isfinite(c.learning_rate) && c.learning_rate > 0, "learning rate must be above 0");
  check(c.label_smoothing >= 0 && c.label_smoothing < 1, "label smoothing must be at least 0 and below 1");
  check(c.clip_norm >= 0, "the norm to clip at must not be negative");
  check(c.iterations > 0 || (std::isfinite(c.epochs) && c.epochs > 0), "epochs must be above 0");
  check(c.optimizer.beta1 >= 0 && c.optimizer.beta1 < 1 && c.optimizer.beta2 >= 0 && c.optimizer.beta2 < 1,
        "the optimizer's betas must be at least 0 and below 1");
  check(c.format == "peft" || c.format == "mlx", "format must be peft or mlx");
  return c;
}

std::filesystem::path training_file(const std::filesystem::path& data) {
  return std::filesystem::is_directory(data) ? data / "train.jsonl" : data;
}

}  // namespace

class Trainer::Impl {
 public:
  explicit Impl(const TrainingConfig& config)
      : config_(checked(config)),
        files_(config_.model),
        spec_(files_.spec()),
        encoder_(files_.encoder(dataset_options())),
        data_(open_data(training_file(config_.data))),
        batcher_(data_, {config_.batch_size, config_.max_seq_length, config_.pack, config_.seed}),
        model_(make_model()),
        parameters_(model_.trained()),
        optimizer_(config_.optimizer, parameters_) {
    const auto valid = config_.data / "valid.jsonl";
    if (std::filesystem::is_directory(config_.data) && std::filesystem::exists(valid))
      valid_.emplace(open_data(valid));
    check(valid_ || config_.eval_every == 0, quote_path(valid) + ": is missing, but evaluation needs it");
    steps_ = config_.iterations;
    if (steps_ == 0)
      steps_ = static_cast<std::uint64_t>(
          std::ceil(std::ceil(config_.epochs * static_cast<double>(batcher_.batches_per_epoch())) /
                    config_.accumulation));
  }

  std::uint64_t trainable() const {
    std::uint64_t n = 0;
    for (const Parameter* p : parameters_) n += p->trained;
    return n;
  }
  std::uint64_t steps() const { return steps_; }
  const Dataset& data() const { return data_; }

  TrainingResult train(const TrainingCallbacks& callbacks) {
    set_compute_threads(config_.threads);
    make_directory(config_.output);
    const std::filesystem::path file = config_.output / "checkpoint.safetensors";
    if (config_.resume && std::filesystem::exists(file)) {
      progress_ = load_training_state(file, parameters_, optimizer_, settings());
      batcher_.set_position(progress_.position);
      model_.refresh();
    }
    TrainingResult result;
    result.trainable_parameters = trainable();
    if (valid_ && config_.eval_every > 0 && progress_.step == 0) evaluate(callbacks);
    std::uint64_t saved = progress_.step;
    bool go_on = true;
    while (go_on && progress_.step < steps_ && !result.stopped) {
      const TrainingStep step = this->step();
      if (!std::isfinite(step.loss))
        throw Error(ErrorCode::invalid_argument, "the loss is no longer finite at step " +
                                                     std::to_string(step.step) +
                                                     "; lower the learning rate or clip gradients");
      if (callbacks.on_step) go_on = callbacks.on_step(step);
      const bool last = progress_.step == steps_;
      if (valid_ && ((config_.eval_every > 0 && progress_.step % config_.eval_every == 0) || last))
        evaluate(callbacks);
      result.stopped = !go_on || (config_.patience > 0 &&
                                  progress_.evaluations_without_progress >= config_.patience && !last);
      if (last || result.stopped || (config_.save_every > 0 && progress_.step % config_.save_every == 0)) {
        save_training_state(file, parameters_, optimizer_, progress_, settings());
        saved = progress_.step;
      }
    }
    if (saved != progress_.step || !std::filesystem::exists(file))
      save_training_state(file, parameters_, optimizer_, progress_, settings());
    write(config_.output);
    result.steps = progress_.step;
    result.loss = progress_.last_loss;
    result.initial_evaluation = progress_.initial_evaluation;
    result.final_evaluation = progress_.last_evaluation;
    result.best_evaluation = progress_.best_evaluation;
    return result;
  }

 private:
  Dataset::Options dataset_options() const {
    return {config_.mask_prompt, config_.skip_bad_lines, config_.max_seq_length};
  }

  Dataset open_data(const std::filesystem::path& file) const {
    return Dataset(std::make_unique<Dataset::Impl>(file, encoder_, dataset_options()));
  }

  TrainableModel make_model() {
    const bool full = config_.method != TrainingMethod::lora;
    check(!full || !files_.directory().empty(),
          "training all weights needs a Hugging Face directory with config.json, not a GGUF file");
    std::error_code ignored;
    check(!full || !std::filesystem::equivalent(files_.directory(), config_.output, ignored),
          quote_path(config_.output) + ": is the model's own directory; choose another output");
    if (config_.method == TrainingMethod::scratch) return random_model(spec_, config_.seed);
    if (!files_.checkpoint())
      throw Error(ErrorCode::not_found, quote_path(config_.model) + ": holds no weights");
    const WeightStore& store = files_.checkpoint()->store();
    TrainableModel model = load_trainable(store, spec_);
    if (config_.method == TrainingMethod::full)
      train_all_weights(model, DecoderSources(store, spec_));
    else
      add_lora(model, config_.lora, config_.seed);
    return model;
  }

  // What decides the course of the run.
  OrderedJson settings() const {
    const TrainingConfig& c = config_;
    return {{"method", static_cast<int>(c.method)},
            {"lora_alpha", c.lora.alpha},
            {"lora_dropout", c.lora.dropout},
            {"lora_rslora", c.lora.rslora},
            {"optimizer", static_cast<int>(c.optimizer.kind)},
            {"optimizer_constants",
             {c.optimizer.beta1, c.optimizer.beta2, c.optimizer.epsilon, c.optimizer.weight_decay}},
            {"schedule", {static_cast<int>(c.schedule.kind), c.schedule.warmup, c.schedule.final_share}},
            {"learning_rate", c.learning_rate},
            {"steps", steps_},
            {"batch_size", c.batch_size},
            {"accumulation", c.accumulation},
            {"max_seq_length", c.max_seq_length},
            {"pack", c.pack},
            {"mask_prompt", c.mask_prompt},
            {"label_smoothing", c.label_smoothing},
            {"clip_norm", c.clip_norm},
            {"bf16", c.bf16},
            {"seed", c.seed},
            {"examples", data_.size()}};
  }

  LossOptions loss_options(bool training, std::uint64_t micro) const {
    LossOptions out;
    out.pass.bf16 = config_.bf16;
    out.pass.dropout = training && config_.lora.dropout > 0;
    out.pass.random = mix_bits(config_.seed) ^ mix_bits(progress_.step * config_.accumulation + micro);
    out.label_smoothing = training ? static_cast<float>(config_.label_smoothing) : 0;
    out.checkpoint = config_.checkpointing;
    // Who computes again for memory does not spend it here.
    out.pass.keep_panels =
        !config_.checkpointing && model_.multiplied_weights() * kPanelBytes <= kMostPanelBytes;
    return out;
  }

  TrainingStep step() {
    const auto start = Clock::now();
    TrainingStep out;
    std::vector<TrainingBatch> batches;
    double weight = 0;
    for (std::uint32_t i = 0; i < config_.accumulation; ++i) {
      batches.push_back(batcher_.next());
      for (const float w : batches.back().weights) weight += w;
      out.tokens += batches.back().tokens.size();
    }
    zero_gradients(parameters_);
    double sum = 0;
    for (std::size_t i = 0; i < batches.size() && weight > 0; ++i)
      sum += model_.loss_and_gradient(batches[i], loss_options(true, i), static_cast<float>(1 / weight)).sum;
    out.gradient_norm = gradient_norm(parameters_);
    if (config_.clip_norm > 0 && out.gradient_norm > config_.clip_norm)
      scale_gradients(parameters_, static_cast<float>(config_.clip_norm / (out.gradient_norm + 1e-6)));
    out.learning_rate = config_.learning_rate * config_.schedule.factor(progress_.step, steps_);
    optimizer_.step(parameters_, out.learning_rate);
    model_.refresh();
    ++progress_.step;
    progress_.position = batcher_.position();
    progress_.last_loss = weight > 0 ? sum / weight : 0;
    out.step = progress_.step;
    out.steps = steps_;
    out.loss = progress_.last_loss;
    out.trained_tokens = static_cast<std::uint64_t>(weight);
    out.epoch = batcher_.epochs();
    out.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return out;
  }

  void evaluate(const TrainingCallbacks& callbacks) {
    BatchLoss total;
    std::uint64_t batches = 0;
    for (std::size_t i = 0; i < valid_->size(); i += config_.batch_size) {
      if (config_.eval_batches > 0 && batches++ == config_.eval_batches) break;
      TrainingBatch batch;
      for (std::size_t j = i; j < std::min<std::size_t>(i + config_.batch_size, valid_->size()); ++j)
        append_example(valid_->at(j), batch);
      const BatchLoss loss = model_.loss(batch, loss_options(false, 0));
      total.sum += loss.sum;
      total.weight += loss.weight;
    }
    TrainingEvaluation out;
    out.step = progress_.step;
    out.loss = total.weight > 0 ? total.sum / total.weight : 0;
    out.tokens = static_cast<std::uint64_t>(total.weight);
    out.best = !progress_.best_evaluation || out.loss < *progress_.best_evaluation;
    if (!progress_.initial_evaluation && progress_.step == 0) progress_.initial_evaluation = out.loss;
    progress_.last_evaluation = out.loss;
    progress_.evaluations_without_progress = out.best ? 0 : progress_.evaluations_without_progress + 1;
    if (out.best) {
      progress_.best_evaluation = out.loss;
      if (progress_.step > 0) write(config_.output / "best");
    }
    if (callbacks.on_evaluation) callbacks.on_evaluation(out);
  }

  void write(const std::filesystem::path& directory) {
    if (config_.method == TrainingMethod::lora)
      return export_adapter(model_, directory, config_.format, config_.model.string());
    DType type = DType::f32;
    if (config_.method == TrainingMethod::full)
      if (const StoredTensor* table = files_.checkpoint()->store().find("model.embed_tokens.weight");
          table && (table->dtype == DType::f16 || table->dtype == DType::bf16))
        type = table->dtype;
    export_model(model_, files_.directory(), directory, type);
  }

  const TrainingConfig config_;
  const ModelFiles files_;
  const DecoderSpec spec_;
  const std::shared_ptr<const ExampleEncoder> encoder_;
  const Dataset data_;
  std::optional<Dataset> valid_;
  Batcher batcher_;
  TrainableModel model_;
  std::vector<Parameter*> parameters_;
  Optimizer optimizer_;
  TrainingProgress progress_;
  std::uint64_t steps_ = 0;
};

Trainer::Trainer(const TrainingConfig& config) : impl_(std::make_unique<Impl>(config)) {}
Trainer::~Trainer() = default;
std::uint64_t Trainer::trainable_parameters() const noexcept { return impl_->trainable(); }
std::uint64_t Trainer::steps() const noexcept { return impl_->steps(); }
const Dataset& Trainer::data() const noexcept { return impl_->data(); }
TrainingResult Trainer::train(const TrainingCallbacks& callbacks) { return impl_->train(callbacks); }

}  // namespace metal_candle
