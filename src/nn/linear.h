// A linear layer of a model: packed weight, bias, and what is fused around it. Every adapter of a linear
// layer is applied here.
#pragma once

#include <optional>

#include "kernels/linear.h"
#include "nn/forward_context.h"

namespace metal_candle {

/// Immutable; cheap to copy. A default-constructed one is empty and must not be called.
class Linear {
 public:
  Linear() = default;
  /// `place`: the layer's number in the model, by which adapters know it.
  Linear(LinearSpec spec, std::size_t place)
      : spec_(std::make_shared<const LinearSpec>(std::move(spec))), place_(place) {}

  /// x: f32 [rows, in], the rows of `ctx`, multiplied exactly. Returns [rows, out], plus `residual` if given.
  mlx::core::array operator()(const ForwardContext& ctx, const mlx::core::array& x,
                              const std::optional<mlx::core::array>& residual = std::nullopt) const {
    return linear(x, spec_, residual, ctx.stream, ctx.adapters.call(place_));
  }
  /// The same on raw memory, complete on return; `y` may be `residual`. x and y in quantized form as well, or
  /// instead: see LinearCall.
  void run(const ForwardContext& ctx, const float* x, const float* residual, float* y, std::size_t rows,
           const std::byte* quantized_x = nullptr, std::byte* quantized_y = nullptr) const {
    thread_local LoraCall lora;  // its memory serves all layers
    const LoraCall* adapters = ctx.adapters.fill(place_, lora) ? &lora : nullptr;
    run_linear({*spec_, x, residual, y, rows, ctx.exact_rows, adapters, quantized_x, quantized_y,
                ctx.adapters.first(place_ + 1)});
  }
  bool takes_quantized() const { return metal_candle::takes_quantized(*spec_); }
  /// Whether run() reads x of these rows although it is given quantized_x.
  bool needs_floats(const ForwardContext& ctx) const {
    if (ctx.adapters.empty() || ctx.exact_rows > 0) return !ctx.adapters.empty();
    const std::shared_ptr<const LoraCall> lora = ctx.adapters.call(place_);
    return lora && !adapters_take_quantized(*spec_, *lora);
  }
  std::size_t in_features() const noexcept { return spec_->weight->in_features(); }
  std::size_t out_features() const noexcept {
    return spec_->weight->out_features() / (spec_->swiglu ? 2 : 1);
  }
  const LinearSpec& spec() const noexcept { return *spec_; }

 private:
  std::shared_ptr<const LinearSpec> spec_;
  std::size_t place_ = 0;
};

}  // namespace metal_candle
