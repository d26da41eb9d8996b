#include "training/batcher.h"

#include <algorithm>
#include <numeric>

#include "training/dropout.h"

namespace metal_candle {
namespace {

std::vector<std::uint32_t> shuffled(std::size_t n, std::uint64_t key) {
  std::vector<std::uint32_t> out(n);
  std::iota(out.begin(), out.end(), 0u);
  for (std::size_t i = n; i-- > 1;) {
    const auto draw = static_cast<unsigned __int128>(mix_bits(key + i)) * (i + 1);
    std::swap(out[i], out[static_cast<std::size_t>(draw >> 64)]);
  }
  return out;
}

}  // namespace

void append_example(const TrainingExample& example, TrainingBatch& batch) {
  const std::size_t begin = batch.tokens.size(), rows = example.tokens.size() - 1;
  batch.tokens.insert(batch.tokens.end(), example.tokens.begin(), example.tokens.end() - 1);
  batch.targets.insert(batch.targets.end(), example.tokens.begin() + 1, example.tokens.end());
  for (std::size_t i = 0; i < rows; ++i) batch.weights.push_back(example.counts[i + 1] ? 1.0f : 0.0f);
  batch.sequences.push_back({begin, begin + rows});
}

const std::vector<std::uint32_t>& Batcher::order() {
  if (ordered_epoch_ != position_.epoch) {
    order_ = shuffled(data_.size(), mix_bits(options_.seed ^ mix_bits(position_.epoch + 1)));
    ordered_epoch_ = position_.epoch;
  }
  return order_;
}

void Batcher::set_position(Position position) { position_ = position; }

double Batcher::epochs() const noexcept {
  return static_cast<double>(position_.epoch) +
         static_cast<double>(position_.index) / static_cast<double>(data_.size());
}

std::uint64_t Batcher::batches_per_epoch() const {
  if (!options_.pack) return (data_.size() + options_.batch_size - 1) / options_.batch_size;
  Batcher counter(data_, options_);
  std::uint64_t batches = 0;
  for (; counter.position_.epoch == 0; ++batches) counter.next();
  return batches;
}

TrainingBatch Batcher::next() {
  TrainingBatch batch;
  const std::size_t budget = std::size_t{options_.batch_size} * options_.max_seq_length;
  while (position_.index < data_.size()) {
    const TrainingExample example = data_.at(order()[position_.index]);
    if (options_.pack && !batch.tokens.empty() && batch.tokens.size() + example.tokens.size() - 1 > budget)
      break;
    append_example(example, batch);
    ++position_.index;
    if (!options_.pack && batch.sequences.size() == options_.batch_size) break;
  }
  if (position_.index == data_.size()) position_ = {position_.epoch + 1, 0};
  return batch;
}

}  // namespace metal_candle
