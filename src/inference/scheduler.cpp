#include "inference/scheduler.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>
#include <utility>

#include "inference/sampler.h"

namespace metal_candle {
namespace {

using Clock = std::chrono::steady_clock;

// Work of one more row whose sequence holds `depth` positions already. Attention runs in f32, at about a
// quarter of the speed of integers.
double row_operations(const DecoderSpec& spec, std::size_t depth) {
  const double heads = spec.heads, width = heads * spec.head_dim, kv = 2.0 * spec.kv_heads * spec.head_dim;
  const double weights = spec.hidden * (2 * width + kv + 3.0 * spec.intermediate);
  return spec.layers * (2 * weights + 4 * 4 * width * static_cast<double>(depth));
}

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

// One running generation: its cache, its random state and the tokens so far.
class Scheduler::Sequence {
 public:
  Sequence(std::shared_ptr<Generation> generation, const StepModel& model, const Tokenizer& tokenizer,
           const SchedulerOptions& options)
      : generation_(std::move(generation)),
        tokenizer_(tokenizer),
        limit_(options.context_size),
        tokens_(generation_->request.prompt),
        cache_(model.kv_shape(options.kv_type), capacity(generation_->request, options)),
        sampler_(generation_->request.sampling, model.spec().vocab),
        stop_(tokenizer, generation_->request.stop) {
    stats_.prompt_tokens = tokens_.size();
    started_ = Clock::now();
  }

  bool ended() const noexcept { return ended_; }
  bool decoding() const noexcept { return pending_rows() == 1; }
  /// Length of the prompt that is being read; 0 once tokens are generated.
  std::size_t prompt() const noexcept {
    const std::size_t prompt = generation_->request.prompt.size();
    return cache_.length() < prompt ? prompt : 0;
  }
  bool exact() const noexcept { return prompt() < kLongPrompt; }
  std::size_t length() const noexcept { return cache_.length(); }
  std::size_t pending_rows() const noexcept { return tokens_.size() - cache_.length(); }
  std::span<const TokenId> pending() const { return std::span(tokens_).subspan(cache_.length()); }
  KvCache& cache() noexcept { return cache_; }
  const AdapterMix* adapters() const noexcept { return generation_->request.adapters.get(); }

  /// False while the consumer is behind: the sequence then sits steps out.
  bool deliver() {
    if (undelivered_) {
      const PushResult result = generation_->queue.try_push(*undelivered_);
      if (result == PushResult::full) return false;
      undelivered_.reset();
      if (result == PushResult::ended && reason_ == FinishReason::none) reason_ = FinishReason::cancelled;
    }
    if (reason_ == FinishReason::none && generation_->queue.cancelled()) reason_ = FinishReason::cancelled;
    if (reason_ != FinishReason::none) finish(nullptr);
    return true;
  }

  /// Chooses the token after the last row fed.
  void sample(std::span<const float> logits) {
    const Sample chosen = sampler_.sample(logits, tokens_);
    StopStep step = stop_.push(chosen.token);
    tokens_.push_back(chosen.token);
    if (step.reason == FinishReason::none && tokens_.size() >= limit_) {
      step.reason = FinishReason::length;
      step.text += stop_.flush();
    }
    undelivered_ = StreamToken{chosen.token,
                               std::move(step.text),
                               chosen.probability,
                               chosen.logit,
                               chosen.logprob,
                               tokenizer_.ends_generation(chosen.token),
                               stats_.generated_tokens,
                               step.reason,
                               chosen.top};
    const auto now = Clock::now();
    if (stats_.generated_tokens++ == 0) {
      first_token_ = now;
      stats_.prompt_seconds = seconds_between(started_, now);
    }
    stats_.decode_seconds = seconds_between(first_token_, now);
    reason_ = step.reason;
    deliver();
  }

  void finish(std::exception_ptr error) {
    stats_.finish_reason = reason_;
    generation_->set_stats(stats_);
    generation_->queue.close(std::move(error));
    ended_ = true;
  }

 private:
  static std::size_t capacity(const GenerationRequest& request, const SchedulerOptions& options) {
    const std::size_t wanted =
        request.prompt.size() + (request.stop.max_tokens ? request.stop.max_tokens : options.context_size);
    return std::min(wanted, options.context_size);
  }

  std::shared_ptr<Generation> generation_;
  const Tokenizer& tokenizer_;
  std::size_t limit_;
  std::vector<TokenId> tokens_;  // prompt and answer; the cache holds a prefix of them
  KvCache cache_;
  Sampler sampler_;
  StopConditions stop_;
  GenerationStats stats_;
  Clock::time_point started_, first_token_;
  std::optional<StreamToken> undelivered_;
  FinishReason reason_ = FinishReason::none;
  bool ended_ = false;
};

Scheduler::Scheduler(std::unique_ptr<StepModel> model, const Tokenizer& tokenizer,
                     const SchedulerOptions& options)
    : model_(std::move(model)), tokenizer_(tokenizer), options_(options) {}

Scheduler::~Scheduler() {
  const auto stopped =
      std::make_exception_ptr(Error(ErrorCode::cancelled, "the model was closed during generation"));
  for (auto& sequence : running_)
    if (!sequence->ended()) sequence->finish(stopped);
  for (auto& generation : waiting_) generation->queue.close(stopped);
}

void Scheduler::add(std::shared_ptr<Generation> generation) { waiting_.push_back(std::move(generation)); }

void Scheduler::admit() {
  while (!waiting_.empty() && running_.size() < options_.max_sequences) {
    const std::shared_ptr<Generation> next = std::move(waiting_.front());
    waiting_.pop_front();
    try {
      running_.push_back(std::make_unique<Sequence>(next, *model_, tokenizer_, options_));
    } catch (...) {
      next->queue.close(std::current_exception());
    }
  }
}

void Scheduler::drop_ended() {
  std::erase_if(running_, [](const auto& sequence) { return sequence->ended(); });
}

Scheduler::Step Scheduler::step() {
  admit();
  std::vector<Sequence*> ready;
  for (auto& sequence : running_)
    if (sequence->deliver() && !sequence->ended()) ready.push_back(sequence.get());
  drop_ended();
  if (running_.empty()) return waiting_.empty() ? Step::idle : Step::worked;
  if (ready.empty()) return Step::stalled;
  forward(ready);
  drop_ended();
  return Step::worked;
}

// Rows of the next pass. Counted, not timed, so that the same requests make the same passes.
std::size_t Scheduler::row_limit(const std::vector<Sequence*>& batch) const {
  constexpr std::size_t kFewest = 16;  // below, reading the weights costs more than multiplying them
  const auto decoding = static_cast<std::size_t>(
      std::count_if(batch.begin(), batch.end(), [](const Sequence* s) { return s->decoding(); }));
  if (decoding == 0 || decoding == batch.size()) return options_.max_rows;
  const Sequence& prompt =
      **std::find_if(batch.begin(), batch.end(), [](const Sequence* s) { return !s->decoding(); });
  const double rows = options_.mixed_operations / row_operations(model_->spec(), prompt.length());
  const double wanted = std::max(rows, static_cast<double>(decoding + kFewest));
  return static_cast<std::size_t>(std::min(wanted, static_cast<double>(options_.max_rows)));
}

// Decoding rows go first, so that a long prompt delays them by one pass at most, and those of one adapter
// stand together, so that its matrices are read once; then exact prompts.
void Scheduler::forward(const std::vector<Sequence*>& ready) {
  std::vector<Sequence*> batch(ready);
  const auto prompts = std::stable_partition(batch.begin(), batch.end(),
                                             [](const Sequence* s) { return s->decoding() && s->exact(); });
  std::stable_sort(batch.begin(), prompts, [](const Sequence* a, const Sequence* b) {
    return a->adapters() && b->adapters() ? *a->adapters() < *b->adapters() : !a->adapters() && b->adapters();
  });
  std::stable_partition(prompts, batch.end(), [](const Sequence* s) { return s->exact(); });
  const std::size_t max_rows = row_limit(batch);
  std::vector<TokenId> tokens;
  std::vector<SequenceRows> rows;
  std::vector<std::int32_t> logit_rows;
  std::vector<Sequence*> sampled;
  for (Sequence* s : batch) {
    const std::size_t count = std::min(s->pending_rows(), max_rows - tokens.size());
    if (count == 0) break;
    const auto chunk = s->pending().first(count);
    tokens.insert(tokens.end(), chunk.begin(), chunk.end());
    rows.push_back({&s->cache(), count, s->prompt(), s->adapters()});
    if (count == s->pending_rows()) {
      logit_rows.push_back(static_cast<std::int32_t>(tokens.size()) - 1);
      sampled.push_back(s);
    }
  }
  batch.resize(rows.size());
  try {
    const std::span<const float> logits = model_->forward(tokens, rows, logit_rows);
    const std::size_t vocab = model_->spec().vocab;
    for (std::size_t i = 0; i < sampled.size(); ++i) {
      try {
        sampled[i]->sample(logits.subspan(i * vocab, vocab));
      } catch (...) {
        sampled[i]->finish(std::current_exception());
      }
    }
  } catch (...) {
    for (Sequence* s : batch) s->finish(std::current_exception());
  }
}

}  // namespace metal_candle
