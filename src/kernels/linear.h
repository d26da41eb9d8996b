// y = x · Wᵀ on packed weights, with what belongs in the same pass over memory fused before and after it.
// On raw memory, and as an MLX op over it; what adapters add is kernels/lora.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/lora.h"
#include "kernels/packed_linear.h"
#include "mlx/array.h"
#include "mlx/utils.h"

namespace metal_candle {

/// RMSNorm applied to x before the product.
struct RmsNormWeight {
  std::vector<float> weight;  ///< [k]
  float eps = 1e-5f;
};

/// What a linear layer does besides the product. Immutable; shared by all graphs that use the layer.
struct LinearSpec {
  std::shared_ptr<const PackedLinear> weight;  ///< [n, k]
  std::shared_ptr<const RmsNormWeight> norm;   ///< null: x as it is
  std::vector<float> bias;                     ///< [n] or empty
  /// The weight stacks gate over up, both [n/2, k]; the result is silu(gate) * up, [rows, n/2].
  bool swiglu = false;
  /// Bit i: segment i of a quantized weight multiplies x as two int8 rows, the second holding what rounding
  /// the first left over: 15 bits instead of 8, at twice the integer work but the same memory traffic.
  std::uint32_t refined = 0;
};

/// Bytes of a row of k values as quantized weights multiply them.
std::size_t quantized_row_bytes(std::size_t k);
/// Whether a layer can be given such rows: all of its weights multiply them.
bool takes_quantized(const LinearSpec& spec);
/// Whether all of a call's adapters multiply the quantized rows too, those after LinearCall::exact_rows.
bool adapters_take_quantized(const LinearSpec& spec, const LoraCall& lora);

/// One application on raw memory, row-major f32. y may be residual itself; both may be reused once run
/// returns.
struct LinearCall {
  const LinearSpec& spec;
  const float* x;         ///< [rows, k]; with quantized_x only for adapters that multiply floats
  const float* residual;  ///< [rows, out] or null
  float* y;               ///< [rows, out]; null if only quantized_y is wanted
  std::size_t rows;
  std::size_t exact_rows;  ///< the rows after them multiply 16-bit weights as DenseProducts::half
  /// Added to the product before bias, SwiGLU and residual, from x after the norm; null: nothing. Rows after
  /// exact_rows are multiplied as the weights do: in f32, 16 bits or, of int8 weights, as quantized.
  const LoraCall* lora = nullptr;
  const std::byte* quantized_x = nullptr;  ///< [rows, quantized_row_bytes(k)], if takes_quantized()
  std::byte* quantized_y = nullptr;        ///< [rows, quantized_row_bytes(out)], without residual
  /// The first delta of the layer that runs next, or null: a single row has it fetched early.
  const LoraDelta* next_delta = nullptr;

  std::size_t k() const { return spec.weight->in_features(); }
  std::size_t out_features() const { return spec.weight->out_features() / (spec.swiglu ? 2 : 1); }
};

/// Computes on the compute pool and returns when y is complete. Shapes are the caller's to check.
void run_linear(const LinearCall& call);

/// x: f32 [rows, k]; residual (optional): f32 [rows, out], added to the result. Returns f32 [rows, out],
/// where out = n, or n/2 with swiglu. Quantized weights multiply x quantized to int8 in blocks of 32 along k
/// (twice where refined). `lora` (may be null): as in LinearCall. Throws Error(invalid_argument) on a shape
/// that does not fit. CPU streams only.
mlx::core::array linear(const mlx::core::array& x, const std::shared_ptr<const LinearSpec>& spec,
                        const std::optional<mlx::core::array>& residual, mlx::core::StreamOrDevice s,
                        std::shared_ptr<const LoraCall> lora = nullptr);

}  // namespace metal_candle
