#include "nn/forward_context.h"

#include <string>
#include <utility>

#include "kernels/simd/rope.h"
#include "metal_candle/error.h"

namespace metal_candle {

ForwardContext ForwardContext::make(std::span<const SequenceRows> sequences, std::span<const float> inv_freq,
                                    mlx::core::Stream stream) {
  auto batch = std::make_shared<AttentionBatch>();
  AdapterRows adapters;
  std::size_t rows = 0, exact_rows = 0;
  for (const SequenceRows& s : sequences) {
    if (s.exact() && exact_rows != rows)
      throw Error(ErrorCode::invalid_argument, "[forward] exact sequences must come first");
    if (s.exact()) exact_rows += s.rows;
    if (s.cache->length() + s.rows > s.cache->capacity())
      throw Error(ErrorCode::context_overflow,
                  "the context of " + std::to_string(s.cache->capacity()) +
                      " positions is full; shorten the prompt or raise the context size");
    batch->sequences.push_back(
        {s.cache->view(), rows, s.rows, s.cache->length(), s.prompt < kRoundedContext});
    adapters.append(s.rows, s.adapters);
    rows += s.rows;
  }
  const std::size_t half = inv_freq.size();
  batch->cos.resize(rows * half);
  batch->sin.resize(rows * half);
  for (const AttentionSequence& s : batch->sequences)
    for (std::size_t i = 0; i < s.rows; ++i) {
      const std::size_t at = (s.first_row + i) * half;
      simd::rope_table(static_cast<std::int64_t>(s.position + i), inv_freq.data(), half, 1.0f,
                       &batch->cos[at], &batch->sin[at]);
    }
  return {std::move(batch), exact_rows, stream, std::move(adapters)};
}

}  // namespace metal_candle
