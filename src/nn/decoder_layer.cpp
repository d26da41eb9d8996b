#include "nn/decoder_layer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "kernels/cpu_primitive.h"
#include "kernels/scratch.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

namespace mx = mlx::core;

class DecoderLayersOp final : public CpuPrimitive {
 public:
  DecoderLayersOp(const std::vector<DecoderLayer>& layers, ForwardContext ctx)
      : CpuPrimitive(ctx.stream), layers_(layers), ctx_(std::move(ctx)) {}
  const char* name() const override { return "metal_candle::decoder_layers"; }
  bool is_equivalent(const mx::Primitive&) const override { return false; }  // it writes the caches

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    const auto* in = read<float>(inputs[0]);
    float* hidden = nullptr;
    if (inputs[0].is_donatable()) {
      outputs[0].copy_shared_buffer(inputs[0]);
      hidden = outputs[0].data<float>();
    } else {
      hidden = allocate<float>(outputs[0]);
    }
    const auto rows = static_cast<std::size_t>(inputs[0].shape(0));
    dispatch(inputs, outputs, [layers = &layers_, ctx = ctx_, in, hidden, rows, size = inputs[0].size()] {
      if (in != hidden) std::copy_n(in, size, hidden);
      for (std::size_t i = 0; i < layers->size(); ++i) (*layers)[i].run(ctx, hidden, rows, i);
    });
  }

 private:
  const std::vector<DecoderLayer>& layers_;
  ForwardContext ctx_;
};

}  // namespace

void DecoderLayer::run(const ForwardContext& ctx, float* hidden, std::size_t rows, std::size_t index) const {
  thread_local Scratch qkv_memory, attended_memory, gated_memory;
  float* projected = qkv_memory.get<float>(rows * qkv.out_features());
  float* attended = attended_memory.get<float>(rows * output.in_features());
  qkv.run(ctx, hidden, nullptr, projected, rows);
  run_attention({*attention, *ctx.attention, index, projected, attended, rows});
  output.run(ctx, attended, hidden, hidden, rows);
  // A tile of 32 outputs is a block of 32 inputs, quantized where it is made; floats are for adapters.
  const std::size_t blocks = down.takes_quantized() ? rows * quantized_row_bytes(down.in_features()) : 0;
  const std::size_t floats = blocks == 0 || down.needs_floats(ctx) ? rows * down.in_features() : 0;
  auto* memory = gated_memory.get<std::byte>(blocks + floats * sizeof(float));
  auto* quantized = blocks > 0 ? memory : nullptr;
  auto* gated = floats > 0 ? reinterpret_cast<float*>(memory + blocks) : nullptr;
  gate_up.run(ctx, hidden, nullptr, gated, rows, nullptr, quantized);
  down.run(ctx, gated, hidden, hidden, rows, quantized);
}

mx::array decoder_layers(const std::vector<DecoderLayer>& layers, const ForwardContext& ctx,
                         mx::array hidden) {
  const auto width = static_cast<int>(layers.empty() ? 0 : layers.front().qkv.in_features());
  if (hidden.ndim() != 2 || hidden.dtype() != mx::float32 || hidden.shape(1) != width)
    throw Error(ErrorCode::invalid_argument,
                "[decoder_layers] hidden must be f32 [rows, " + std::to_string(width) + "]");
  const mx::Shape shape = hidden.shape();
  return mx::array(shape, mx::float32, std::make_shared<DecoderLayersOp>(layers, ctx), {std::move(hidden)});
}

}  // namespace metal_candle
