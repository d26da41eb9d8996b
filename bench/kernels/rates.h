// A benchmark's rate, and its share of what the machine allows: METAL_CANDLE_LIMITS names a file that holds
// what `bench/limits/limits.cpp` prints.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace metal_candle {

/// `limit` of so many threads (read_gb_s, f32_gflops, bf16_gflops, int8_gops); 0: not known.
inline double machine_limit(const char* limit, unsigned threads) {
  const char* path = std::getenv("METAL_CANDLE_LIMITS");
  if (!path) return 0;
  static const nlohmann::json limits = nlohmann::json::parse(std::ifstream(path));
  const auto of_threads = limits.find(std::to_string(threads));
  return of_threads == limits.end() ? 0 : of_threads->value(limit, 0.0);
}

/// `amount`: of an iteration, in billions (bytes, operations).
inline void report_rate(benchmark::State& state, const char* unit, double amount, const char* limit,
                        unsigned threads) {
  state.counters[unit] = benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
  if (const double most = machine_limit(limit, threads); most > 0)
    state.counters["share"] =
        benchmark::Counter(amount / most, benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace metal_candle
