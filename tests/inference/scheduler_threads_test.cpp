// The scheduler between threads, without MLX, so that ThreadSanitizer sees every access: one thread steps,
// many ask, read, cancel and hang up, each with an adapter of its own. The model is arithmetic on what it is
// given.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <random>
#include <thread>

#include "inference/scheduler.h"
#include "models/checkpoint.h"

namespace metal_candle {
namespace {

constexpr std::uint32_t kVocab = 262;

// The token after `token` at `position`, for a mix.
std::int32_t successor(std::int32_t token, std::size_t position, const AdapterMix* mix) {
  std::size_t sum = 7 * static_cast<std::size_t>(token) + 3 * position;
  if (mix)
    for (const AdapterMix::Use& use : mix->uses)
      sum += use.adapter->gains.size() * static_cast<std::size_t>(use.weight);
  return static_cast<std::int32_t>(sum % 250);  // no special token
}

class Arithmetic final : public StepModel {
 public:
  Arithmetic() {
    spec_.layers = spec_.hidden = spec_.intermediate = spec_.heads = spec_.kv_heads = 1;
    spec_.head_dim = 16;
    spec_.vocab = kVocab;
  }
  const DecoderSpec& spec() const noexcept override { return spec_; }
  KvShape kv_shape(simd::KvType type) const noexcept override { return {type, 1, 1, 16}; }
  std::span<const float> forward(std::span<const std::int32_t> tokens,
                                 std::span<const SequenceRows> sequences,
                                 std::span<const std::int32_t> logit_rows) override {
    logits_.assign(logit_rows.size() * kVocab, 0);
    std::size_t row = 0, wanted = 0;
    for (const SequenceRows& s : sequences) {
      for (std::size_t i = 0; i < s.rows; ++i, ++row) {
        if (wanted == logit_rows.size() || static_cast<std::size_t>(logit_rows[wanted]) != row) continue;
        const auto next = successor(tokens[row], s.cache->length() + i, s.adapters);
        logits_[wanted++ * kVocab + static_cast<std::size_t>(next)] = 9;
      }
      s.cache->advance(s.rows);
    }
    return logits_;
  }

 private:
  DecoderSpec spec_;
  std::vector<float> logits_;
};

// The engine's loop, without its MLX.
class Loop {
 public:
  explicit Loop(const Tokenizer& tokenizer)
      : scheduler_(std::make_unique<Arithmetic>(), tokenizer,
                   {.context_size = 128, .kv_type = simd::KvType::f32, .max_sequences = 8}),
        thread_([this](std::stop_token stop) { run(stop); }) {}

  void add(std::shared_ptr<Generation> generation) {
    const std::lock_guard lock(mutex_);
    inbox_.push_back(std::move(generation));
  }

 private:
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      {
        const std::lock_guard lock(mutex_);
        for (auto& generation : inbox_) scheduler_.add(std::move(generation));
        inbox_.clear();
      }
      if (scheduler_.step() != Scheduler::Step::worked) std::this_thread::yield();
    }
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<Generation>> inbox_;
  Scheduler scheduler_;
  std::jthread thread_;  // last: stops before the rest goes
};

TEST(SchedulerThreads, EachRequestGetsItsOwnTokensWhateverOthersDo) {
  const std::unique_ptr<Tokenizer> tokenizer =
      Checkpoint::open(std::string(MC_GOLDEN_DIR) + "/models/llama3/model.gguf").tokenizer();
  std::vector<std::shared_ptr<const BoundAdapter>> adapters;
  for (std::size_t i = 1; i <= 16; ++i) {
    auto adapter = std::make_shared<BoundAdapter>();
    adapter->gains.resize(i);
    adapters.push_back(std::move(adapter));
  }
  std::atomic<std::size_t> checked{0};
  {
    Loop loop(*tokenizer);
    const auto client = [&](unsigned seed) {
      std::mt19937 random(seed);
      for (int i = 0; i < 60; ++i) {
        GenerationRequest request;
        request.prompt.assign(1 + random() % 40, static_cast<std::int32_t>(random() % 250));
        request.sampling.temperature = 0;
        request.stop.max_tokens = 1 + random() % 40;
        request.stop.ignore_eos = true;
        if (random() % 4 != 0) {
          auto mix = std::make_shared<AdapterMix>();
          for (unsigned n = random() % 3; n < 3; ++n)
            mix->uses.push_back({adapters[random() % adapters.size()], static_cast<float>(1 + random() % 3)});
          request.adapters = std::move(mix);
        }
        const auto generation = std::make_shared<Generation>(std::move(request), 1 + random() % 8);
        loop.add(generation);
        const bool hangs_up = random() % 5 == 0;
        std::int32_t last = generation->request.prompt.back();
        std::size_t position = generation->request.prompt.size() - 1, got = 0;
        while (const auto token = generation->queue.pop()) {
          EXPECT_EQ(token->token, successor(last, position++, generation->request.adapters.get()));
          last = token->token;
          if (++got == 5 && hangs_up) generation->queue.cancel();
        }
        if (!hangs_up) {
          EXPECT_EQ(got, generation->request.stop.max_tokens);
          EXPECT_EQ(generation->stats().generated_tokens, got);
        }
        ++checked;
      }
    };
    std::vector<std::thread> clients;
    for (unsigned i = 0; i < 8; ++i) clients.emplace_back(client, i);
    for (std::thread& c : clients) c.join();
  }
  EXPECT_EQ(checked, 8u * 60);
}

}  // namespace
}  // namespace metal_candle
