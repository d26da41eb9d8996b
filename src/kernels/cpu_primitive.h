// What every CPU primitive of ours needs to plug into MLX's graph: allocation, raw pointers, dispatch.
#pragma once

#include <utility>
#include <vector>

#include "metal_candle/error.h"
#include "mlx/allocator.h"
#include "mlx/array.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/primitives.h"

namespace metal_candle {

/// An mx::Primitive with a CPU evaluation only. eval_cpu runs while the graph is walked, before inputs hold
/// values: it allocates, takes pointers and leaves all work to dispatch().
class CpuPrimitive : public mlx::core::Primitive {
 public:
  explicit CpuPrimitive(mlx::core::Stream stream) : Primitive(stream) {}
  void eval_gpu(const std::vector<mlx::core::array>&, std::vector<mlx::core::array>&) override {
    throw Error(ErrorCode::unsupported, std::string("[") + name() + "] runs on CPU streams only");
  }

 protected:
  template <typename T>
  static T* allocate(mlx::core::array& out) {
    out.set_data(mlx::core::allocator::malloc(out.nbytes()));
    return out.data<T>();
  }

  template <typename T>
  static const T* read(const mlx::core::array& in) {
    if (!in.flags().row_contiguous) throw Error(ErrorCode::internal, "a kernel was given a strided array");
    return in.data<T>();
  }

  template <typename F>
  void dispatch(const std::vector<mlx::core::array>& inputs, std::vector<mlx::core::array>& outputs,
                F&& work) {
    auto& encoder = mlx::core::cpu::get_command_encoder(stream());
    for (const auto& in : inputs) encoder.set_input_array(in);
    for (auto& out : outputs) encoder.set_output_array(out);
    encoder.dispatch(std::forward<F>(work));
  }
};

}  // namespace metal_candle
