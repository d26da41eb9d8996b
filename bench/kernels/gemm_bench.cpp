// The products of a training step of SmolLM2-135M: 1,024 rows; X·Wᵀ forward, dY·W backward.
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/compute_pool.h"
#include "kernels/gemm.h"
#include "kernels/weight_rows.h"
#include "rates.h"

namespace metal_candle {
namespace {

// n, k of W; 0: X·Wᵀ, 1: dY·W; 0: f32, 1: bf16, 2: Q4_1 weights; 0: f32, 1: 16-bit products.
void step(benchmark::State& state) {
  const std::size_t m = 1024;
  const auto n = static_cast<std::size_t>(state.range(0)), k = static_cast<std::size_t>(state.range(1));
  const bool backward = state.range(2) != 0;
  const DType types[] = {DType::f32, DType::bf16, DType::q4_1};
  MatrixSource source;
  source.format = types[state.range(3)];
  source.n = n;
  source.k = k;
  const std::vector<std::byte> bytes(*byte_size(source.format.type, n * k), std::byte{0x11});
  source.data = bytes;
  const WeightRows weight({source});
  const std::size_t in = backward ? n : k, out = backward ? k : n;
  const std::vector<float> x(m * in, 0.5f);
  std::vector<float> y(m * out);
  const GemmTerm term{{x.data(), in, 1}, &weight, !backward, in, 0, out};
  for (auto _ : state) gemm({m, out, {&term, 1}, y.data(), out, false, state.range(4) != 0});
  report_rate(state, "GFLOPS", 2e-9 * static_cast<double>(m * n * k), "f32_gflops", compute_pool().size());
}
BENCHMARK(step)
    ->UseRealTime()
    ->ArgNames({"n", "k", "backward", "weight", "half"})
    ->ArgsProduct({{576, 960, 3072}, {576}, {0, 1}, {0, 1, 2}, {0, 1}})
    ->ArgsProduct({{576}, {1536}, {0, 1}, {0, 1, 2}, {0, 1}});

}  // namespace
}  // namespace metal_candle
