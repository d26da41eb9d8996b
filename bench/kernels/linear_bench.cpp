// The packed linear alone: decoding (1 row) from memory in GB/s of weights, prompts in GOPS, packing in GB/s.
// Threads take tiles in turn, as kernels/linear does; compare with bench/limits. Run with --benchmark_filter,
// METAL_CANDLE_SIMD to choose a target, METAL_CANDLE_LIMITS (rates.h) for shares of the limit.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/simd/linear.h"
#include "rates.h"

namespace {

using namespace metal_candle;
using namespace metal_candle::simd;

constexpr std::size_t kRowBlock = 96;                  // rows a thread multiplies with a tile at a time
constexpr std::size_t kCold = std::size_t{640} << 20;  // bytes of weights that no cache holds

const std::vector<WeightFormat> kFormats = {DType::q4_0,
                                            DType::q4_1,
                                            DType::q5_0,
                                            DType::q5_1,
                                            DType::q8_0,
                                            DType::q2_k,
                                            DType::q3_k,
                                            DType::q4_k,
                                            DType::q5_k,
                                            DType::q6_k,
                                            DType::f16,
                                            DType::bf16,
                                            DType::f32,
                                            WeightFormat::affine(4, 64, DType::bf16),
                                            WeightFormat::affine(8, 64, DType::bf16)};

std::string label(const WeightFormat& f) {
  return f.bits ? "affine" + std::to_string(f.bits) : std::string(metal_candle::name(f.type));
}

/// Random bytes: the time of a product does not depend on values, unless scales make NaN or subnormal ones.
std::vector<std::byte> random_tiles(const WeightFormat& format, std::size_t k, std::size_t tiles) {
  std::vector<std::byte> out(tiles * packed_tile_bytes(format, k));
  std::mt19937 random(1);
  std::byte* const first = out.data();
  const std::size_t some = std::min<std::size_t>(out.size(), 1 << 20);
  for (std::size_t i = 0; i < some; ++i) first[i] = static_cast<std::byte>(random() & 0x37);
  for (std::size_t i = some; i < out.size(); ++i) first[i] = first[i - some];
  return out;
}

struct Rows {
  std::size_t stride;
  std::vector<std::byte> data;
  Rows(const WeightFormat& format, std::size_t m, std::size_t k)
      : stride(activation_row_bytes(format, k)), data(m * stride) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> x(k);
    for (std::size_t r = 0; r < m; ++r) {
      for (float& v : x) v = normal(random);
      prepare_activations(format, x.data(), k, data.data() + r * stride);
    }
  }
};

/// Weights [n, k] over and over until no cache holds them, one row.
void decode(benchmark::State& state, WeightFormat format, std::size_t k, unsigned threads) {
  const std::size_t bytes = packed_tile_bytes(format, k);
  const std::size_t tiles = kCold / bytes;
  const std::vector<std::byte> weights = random_tiles(format, k, tiles);
  const Rows x(format, 1, k);
  std::vector<float> out(tiles * kTileRows);
  ThreadPool pool(threads);
  for (auto _ : state) {
    pool.run([&](unsigned t) {
      for (std::size_t i = tiles * t / threads; i < tiles * (t + 1) / threads; ++i) {
        linear_tile(format, k, &weights[i * bytes], x.data.data(), x.stride, 1, &out[i * kTileRows],
                    kTileRows);
      }
    });
  }
  report_rate(state, "GB/s", static_cast<double>(weights.size()) * 1e-9, "read_gb_s", threads);
}

void prompt(benchmark::State& state, WeightFormat format, std::size_t m, std::size_t n, std::size_t k,
            unsigned threads) {
  const std::size_t bytes = packed_tile_bytes(format, k);
  const std::size_t tiles = n / kTileRows, blocks = (m + kRowBlock - 1) / kRowBlock;
  const std::vector<std::byte> weights = random_tiles(format, k, tiles);
  const Rows x(format, m, k);
  std::vector<float> out(m * n);
  ThreadPool pool(threads);
  for (auto _ : state) {
    pool.parallel_for(tiles * blocks, 2, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t row = i / tiles * kRowBlock, tile = i % tiles;
        linear_tile(format, k, &weights[tile * bytes], &x.data[row * x.stride], x.stride,
                    std::min(kRowBlock, m - row), &out[row * n + tile * kTileRows], n, DenseProducts::half);
      }
    });
  }
  const bool dense = format.bits == 0 && !is_quantized(format.type);
  report_rate(state, "GOPS", 2e-9 * static_cast<double>(m * n * k), dense ? "f32_gflops" : "int8_gops",
              threads);
}

void pack(benchmark::State& state, WeightFormat format, std::size_t k) {
  const std::size_t row_bytes = format.bits ? k * format.bits / 8 : *byte_size(format.type, k);
  const std::vector<std::byte> row(row_bytes * kTileRows), scales(k);
  const std::byte* rows[kTileRows];
  AffineRow affine[kTileRows];
  for (std::size_t j = 0; j < kTileRows; ++j) {
    rows[j] = &row[j * row_bytes];
    affine[j] = {rows[j], scales.data(), scales.data()};
  }
  std::vector<std::byte> tile(packed_tile_bytes(format, k));
  for (auto _ : state) {
    format.bits ? pack_affine_tile(format, k, affine, tile.data()) : pack_tile(format, k, rows, tile.data());
    benchmark::ClobberMemory();
  }
  report_rate(state, "GB/s", static_cast<double>(row.size()) * 1e-9, "read_gb_s", 1);
}

void prepare(benchmark::State& state, WeightFormat format, std::size_t k) {
  std::vector<float> x(k, 1.5f);
  std::vector<std::byte> out(activation_row_bytes(format, k));
  for (auto _ : state) {
    prepare_activations(format, x.data(), k, out.data());
    benchmark::ClobberMemory();
  }
  report_rate(state, "GB/s", static_cast<double>(4 * k) * 1e-9, "read_gb_s", 1);
}

bool register_all() {
  struct Shape {
    std::size_t n, k;
  };
  // SmolLM2-135M's projections, then those of 1B models.
  const Shape shapes[] = {{576, 576},   {960, 576},   {3072, 576}, {576, 1536},
                          {2048, 2048}, {8192, 2048}, {2048, 8192}};
  const auto add = [](const std::string& name, auto run) {
    return benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond);
  };
  for (const WeightFormat& f : kFormats) {
    for (std::size_t k : {576, 1536, 2048, 8192}) {
      if (k % linear_k_unit(f) != 0) continue;
      for (unsigned threads : {1u, 2u}) {
        add("decode/" + label(f) + "/k" + std::to_string(k) + "/t" + std::to_string(threads),
            [=](benchmark::State& s) { decode(s, f, k, threads); })
            ->Unit(benchmark::kMillisecond);
      }
    }
    for (const Shape shape : shapes) {
      if (shape.k % linear_k_unit(f) != 0) continue;
      for (std::size_t m : {4, 16, 64, 512}) {
        for (unsigned threads : {1u, 2u}) {
          add("prompt/" + label(f) + "/m" + std::to_string(m) + "/n" + std::to_string(shape.n) + "/k" +
                  std::to_string(shape.k) + "/t" + std::to_string(threads),
              [=](benchmark::State& s) { prompt(s, f, m, shape.n, shape.k, threads); });
        }
      }
    }
    add("pack/" + label(f), [=](benchmark::State& s) { pack(s, f, 2048); });
  }
  for (DType type : {DType::q8_0, DType::bf16}) {
    add("prepare/" + label(type), [=](benchmark::State& s) { prepare(s, type, 2048); });
  }
  return true;
}

const bool registered = register_all();

}  // namespace
