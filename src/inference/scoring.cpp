#include "inference/scoring.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "inference/sampler.h"

namespace metal_candle {

namespace {
constexpr std::size_t kChunk = 64;  // rows a pass: their logits are 64 x vocab floats
}

Score score_tokens(const Decoder& decoder, std::span<const std::int32_t> tokens, unsigned top_k,
                   std::size_t context_size, simd::KvType kv_type, const AdapterMix* adapters) {
  if (tokens.empty())
    throw Error(ErrorCode::invalid_argument, "nothing to score: the list of tokens is empty");
  if (tokens.size() > context_size)
    throw Error(ErrorCode::context_overflow,
                std::to_string(tokens.size()) + " tokens do not fit the context of " +
                    std::to_string(context_size) + "; shorten the text or raise the context size");
  KvCache cache(decoder.kv_shape(kv_type), tokens.size());
  const std::size_t vocab = decoder.spec().vocab;
  Score score;
  score.logprobs.emplace_back();
  for (std::size_t begin = 0; begin < tokens.size(); begin += kChunk) {
    const std::size_t rows = std::min(kChunk, tokens.size() - begin);
    std::vector<std::int32_t> all(rows);
    std::iota(all.begin(), all.end(), 0);
    const SequenceRows sequence{&cache, rows, tokens.size(), adapters};
    const auto logits = decoder.forward(tokens.subspan(begin, rows), {&sequence, 1}, all);
    for (std::size_t i = 0; i < rows; ++i) {
      const bool last = begin + i + 1 == tokens.size();
      const std::int32_t next = last ? 0 : tokens[begin + i + 1];
      Sample sample = describe({logits.data<float>() + i * vocab, vocab}, next, top_k);
      score.top.push_back(std::move(sample.top));
      if (!last) score.logprobs.emplace_back(sample.logprob);
    }
  }
  return score;
}

}  // namespace metal_candle
