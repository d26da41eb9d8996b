// Attention of one layer stack's caches: decoding in GB/s of cache read, prompts in GFLOPS. One thread a
// benchmark thread, each with its own caches; run with --benchmark_filter. Compare with bench/limits.
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "kernels/simd/attention.h"
#include "rates.h"

namespace {

using namespace metal_candle::simd;

struct Heads {
  AttentionParams params;
  KvType type;
  std::size_t bytes;
  std::vector<std::vector<char>> keys, values;
  std::vector<float> q, out;

  Heads(KvType t, std::size_t dim, std::size_t group, std::size_t length, std::size_t count, std::size_t rows)
      : params{.head_dim = dim, .group = group, .scale = 1 / std::sqrt(static_cast<float>(dim))},
        type(t),
        bytes(kv_bytes(t, dim, length)),
        keys(count),
        values(count),
        q(rows * group * dim),
        out(rows * group * dim) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& v : q) v = normal(random);
    std::vector<float> x(length * dim);
    for (float& v : x) v = normal(random);
    for (std::size_t i = 0; i < count; ++i) {
      keys[i].resize(bytes);
      values[i].resize(bytes);
      store_keys(t, dim, x.data(), dim, length, 0, keys[i].data());
      store_values(t, dim, x.data(), dim, length, 0, values[i].data());
    }
  }
};

KvType type_of(const benchmark::State& state) { return static_cast<KvType>(state.range(0)); }

void decode(benchmark::State& state) {
  const auto dim = static_cast<std::size_t>(state.range(1)), group = static_cast<std::size_t>(state.range(2));
  const auto length = static_cast<std::size_t>(state.range(3));
  const std::size_t count =
      std::max<std::size_t>(1, (128u << 20) / (2 * kv_bytes(type_of(state), dim, length)));
  Heads h(type_of(state), dim, group, length, count, 1);
  for (auto _ : state) {
    for (std::size_t i = 0; i < count; ++i) {
      attend(h.params, {h.type, h.keys[i].data(), h.values[i].data()}, {h.q.data(), group * dim, dim}, 1,
             length - 1, length, {h.out.data(), group * dim, dim});
    }
  }
  metal_candle::report_rate(state, "GB/s", 1e-9 * static_cast<double>(count * 2 * h.bytes), "read_gb_s",
                            static_cast<unsigned>(state.threads()));
}

void prompt(benchmark::State& state) {
  const auto dim = static_cast<std::size_t>(state.range(1)), group = static_cast<std::size_t>(state.range(2));
  const auto length = static_cast<std::size_t>(state.range(3));
  Heads h(type_of(state), dim, group, length, 1, length);
  for (auto _ : state) {
    attend(h.params, {h.type, h.keys[0].data(), h.values[0].data()}, {h.q.data(), group * dim, dim}, length,
           0, length, {h.out.data(), group * dim, dim});
  }
  // Useful work only: the causal half, two products of 2 * dim operations a (query, key) pair.
  const double pairs =
      static_cast<double>(group) * static_cast<double>(length) * static_cast<double>(length + 1) / 2;
  metal_candle::report_rate(state, "GFLOPS", pairs * 4e-9 * static_cast<double>(dim), "f32_gflops",
                            static_cast<unsigned>(state.threads()));
}

void store(benchmark::State& state) {
  Heads h(type_of(state), 64, 1, 512, 1, 512);
  for (auto _ : state) {
    store_keys(h.type, 64, h.q.data(), 64, 512, 0, h.keys[0].data());
    store_values(h.type, 64, h.q.data(), 64, 512, 0, h.values[0].data());
  }
  state.SetItemsProcessed(state.iterations() * 512);
}

const std::vector<std::string> kNames = {"type", "dim", "group", "length"};
BENCHMARK(decode)->ArgNames(kNames)->ArgsProduct({{1, 2}, {64}, {3, 7}, {512, 4096}});
BENCHMARK(decode)->ArgNames(kNames)->ArgsProduct({{1, 2}, {128}, {4}, {4096}});
BENCHMARK(prompt)->ArgNames(kNames)->ArgsProduct({{1, 2}, {64}, {3, 4}, {32, 512, 2048, 8000}});
BENCHMARK(prompt)->ArgNames(kNames)->ArgsProduct({{1, 2}, {128}, {4}, {2048}});
BENCHMARK(store)->ArgNames({"type"})->Arg(1)->Arg(2);

}  // namespace
BENCHMARK_MAIN();
