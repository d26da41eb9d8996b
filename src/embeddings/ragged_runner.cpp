#include "embeddings/ragged_runner.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

#include "kernels/compute_pool.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// Activations of a batch stay in the caches, and a weight that is read serves enough rows.
constexpr std::size_t kBatchTokens = 256;

struct Batch {
  RaggedBatch rows;
  std::size_t first = 0;  // index of its first sequence
};

void append(const EncoderInput& input, RaggedBatch& to) {
  if (!input.types.empty()) to.types.resize(to.tokens.size(), 0);
  to.tokens.insert(to.tokens.end(), input.tokens.begin(), input.tokens.end());
  if (!input.types.empty()) to.types.insert(to.types.end(), input.types.begin(), input.types.end());
  if (!to.types.empty()) to.types.resize(to.tokens.size(), 0);
  to.begin.push_back(to.tokens.size());
}

std::vector<Batch> cut(const std::vector<EncoderInput>& inputs) {
  std::vector<Batch> out;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (out.empty() || out.back().rows.tokens.size() + inputs[i].tokens.size() > kBatchTokens) {
      out.emplace_back();
      out.back().first = i;
    }
    append(inputs[i], out.back().rows);
  }
  return out;
}

void check(const std::vector<EncoderInput>& inputs, std::size_t vocab) {
  for (const EncoderInput& input : inputs)
    for (const TokenId id : input.tokens)
      if (id < 0 || static_cast<std::size_t>(id) >= vocab)
        throw Error(ErrorCode::malformed_file, "the tokenizer yields token " + std::to_string(id) +
                                                   ", the model knows " + std::to_string(vocab) +
                                                   "; they do not belong together");
}

}  // namespace

void RaggedRunner::run(const std::vector<EncoderInput>& inputs, const Done& done, const AdapterMix* mix) {
  check(inputs, encoder_->spec().vocab);
  const std::vector<Batch> batches = cut(inputs);
  const std::lock_guard lock(turn_);
  ThreadPool& pool = compute_pool();
  std::size_t tokens = 0, longest = 0;
  for (const Batch& batch : batches) {
    tokens = std::max(tokens, batch.rows.tokens.size());
    longest = std::max(longest, batch.rows.longest());
  }
  std::optional<EncoderAdapters> changes;
  if (mix) changes.emplace(*mix, encoder_->spec().layers, tokens);
  const EncoderAdapters* adapters = changes ? &*changes : nullptr;
  // While every thread can have a batch to itself, nobody waits; what is left they do together.
  const std::size_t alone = batches.size() / pool.size() * pool.size();
  const std::size_t teams = alone > 0 ? pool.size() : 1;
  if (buffers_.size() < teams) buffers_.resize(teams);
  for (std::size_t i = 0; i < teams; ++i)
    buffers_[i].reserve(*encoder_, tokens, longest, i == 0 ? pool.size() : 1, adapters);
  encoder_->reserve_positions(longest);

  const auto process = [&](const Batch& batch, EncoderBuffers& buffers, const Team& team) {
    encoder_->forward(batch.rows, buffers, team, adapters);
    const auto [begin, end] = team.share(batch.rows.sequences());
    for (std::size_t s = begin; s < end; ++s)
      done(batch.first + s, buffers.hidden() + batch.rows.begin[s] * encoder_->spec().hidden,
           batch.rows.length(s));
    team.barrier();
  };
  std::atomic<std::size_t> next{0};
  pool.run([&](unsigned thread) {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < alone;)
      process(batches[i], buffers_[thread], Team{});
    const Team all{thread, pool.size(), &pool};
    all.barrier();
    for (std::size_t i = alone; i < batches.size(); ++i) process(batches[i], buffers_[0], all);
  });
}

}  // namespace metal_candle
