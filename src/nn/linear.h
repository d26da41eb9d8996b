// A linear layer of a model: packed weight, bias, and what is fused around it. The only place that will apply
// an adapter.
#pragma once

#include <optional>

#include "kernels/linear.h"
#include "nn/forward_context.h"

namespace metal_candle {

/// Immutable; cheap to copy. A default-constructed one is empty and must not be called.
class Linear {
 public:
  Linear() = default;
  explicit Linear(LinearSpec spec) : spec_(std::make_shared<const LinearSpec>(std::move(spec))) {}

  /// x: f32 [rows, in]. Returns [rows, out], plus `residual` if given.
  mlx::core::array operator()(const ForwardContext& ctx, const mlx::core::array& x,
                              const std::optional<mlx::core::array>& residual = std::nullopt) const {
    return linear(x, spec_, residual, ctx.stream);
  }
  const LinearSpec& spec() const noexcept { return *spec_; }

 private:
  std::shared_ptr<const LinearSpec> spec_;
};

}  // namespace metal_candle
