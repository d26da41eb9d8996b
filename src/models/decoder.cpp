#include "models/decoder.h"

#include <utility>

#include "kernels/embedding.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"

namespace metal_candle {

namespace mx = mlx::core;

Decoder::Decoder(DecoderSpec spec, DecoderWeights weights)
    : spec_(std::move(spec)), weights_(std::move(weights)) {}

KvShape Decoder::kv_shape(simd::KvType type) const noexcept {
  return {type, spec_.layers, spec_.kv_heads, spec_.head_dim};
}

mx::array Decoder::forward(std::span<const std::int32_t> tokens, std::span<const SequenceRows> sequences,
                           std::span<const std::int32_t> logit_rows) const {
  auto ctx = ForwardContext::make(sequences, spec_.inv_freq, mx::default_stream(mx::Device::cpu));
  const auto table = ctx.adapters.call(adapter_place({WeightRole::embedding}).place);
  mx::array h = decoder_layers(weights_.layers, ctx, embed(*weights_.embedding, tokens, table.get()));
  if (logit_rows.size() < tokens.size()) {
    const mx::array index(logit_rows.data(), {static_cast<int>(logit_rows.size())}, mx::int32);
    h = mx::take(h, index, 0, ctx.stream);
    ctx.adapters = ctx.adapters.select(logit_rows);
  }
  mx::array logits = weights_.head(ctx, h);
  mx::eval(logits);
  for (const SequenceRows& s : sequences) s.cache->advance(s.rows);
  return logits;
}

}  // namespace metal_candle
