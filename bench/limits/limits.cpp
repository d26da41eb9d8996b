// Measures what the machine can do at most: read bandwidth and arithmetic peaks with 1..N threads, as JSON.
//     limits [THREADS]          the best of many short runs: what the machine does when nobody disturbs it
//     limits --read THREADS     GB/s read over about a second: what it does now, beside a decoding run
// Not a kernel benchmark: registers and streams only.
// Build: c++ -O3 -march=native -std=c++20 -pthread limits.cpp

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRounds = 60;      // short ones, the best counts: a busy machine interrupts long ones
constexpr int kReadRounds = 16;  // of more than a cache of 260 MiB, that is, longer ones
constexpr size_t kBytes = size_t{1} << 30;  // of all threads
constexpr int kAccumulators = 16;           // hides a latency of 8 cycles at two a cycle
constexpr long kSteps = 400'000;

#ifdef __AVX512F__
using Floats = __m512;
using Words = __m512i;
#else
using Floats = float __attribute__((vector_size(32)));
using Words = long long __attribute__((vector_size(32)));
#endif

// The compiler must assume that the register is read and changed here.
template <typename Vector>
void keep(Vector& value) {
#ifdef __aarch64__
  asm volatile("" : "+w"(value));
#elif defined(__AVX512F__)
  asm volatile("" : "+v"(value));
#else
  asm volatile("" : "+x"(value));
#endif
}

struct Rate {
  double best = 0, mean = 0;  // of the rounds, units a second
};

/// Runs `work(thread)` `rounds` times on `threads` threads at once. The workers read the clock themselves: a
/// coordinator would wait for a core.
Rate measure(int rounds, int threads, double units, const std::function<void(int)>& work) {
  std::barrier gate(threads);
  std::vector<Clock::time_point> starts(threads), ends(threads);
  double least = 1e9, sum = 0;
  const auto run = [&](int t) {
    for (int round = 0; round < rounds; ++round) {
      gate.arrive_and_wait();
      starts[t] = Clock::now();
      work(t);
      ends[t] = Clock::now();
      gate.arrive_and_wait();
      if (t == 0) {
        const auto last = *std::max_element(ends.begin(), ends.end());
        const auto first = *std::min_element(starts.begin(), starts.end());
        const double seconds = std::chrono::duration<double>(last - first).count();
        least = std::min(least, seconds);
        sum += seconds;
      }
      gate.arrive_and_wait();
    }
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(run, t);
  run(0);
  for (auto& thread : others) thread.join();
  return {threads * units / least, rounds * threads * units / sum};
}

Rate read_bandwidth(int threads) {
  const size_t bytes = kBytes / static_cast<size_t>(threads) / 4096 * 4096, count = bytes / sizeof(Words);
  std::vector<Words*> buffers(threads);
  for (auto& buffer : buffers) {
    buffer = static_cast<Words*>(std::aligned_alloc(4096, bytes));
    if (buffer == nullptr) std::abort();
    std::fill_n(reinterpret_cast<char*>(buffer), bytes, 1);
  }
  const Rate rate = measure(kReadRounds, threads, static_cast<double>(bytes), [&](int t) {
    Words sums[8] = {};
    for (size_t i = 0; i < count; i += 8) {
      for (int k = 0; k < 8; ++k) sums[k] += buffers[t][i + k];
    }
    for (auto& sum : sums) keep(sum);
  });
  for (auto* buffer : buffers) std::free(buffer);
  return rate;
}

/// Arithmetic peak of `step(accumulator, a, b)`, which does `operations` operations.
template <typename Vector, typename Operand, typename Step>
double peak(int threads, double operations, Operand operand, Step step) {
  const auto work = [&](int) {
    Vector sums[kAccumulators] = {};
    for (auto& sum : sums) keep(sum);  // or equal sums would be computed once
    Operand a = operand, b = operand;
#pragma GCC unroll 8
    for (long i = 0; i < kSteps; ++i) {
      keep(a);
      keep(b);
      for (auto& sum : sums) sum = step(sum, a, b);
    }
    for (auto& sum : sums) keep(sum);
  };
  return measure(kRounds, threads, operations * kAccumulators * kSteps, work).best;
}

double f32_peak(int threads) {
  return peak<Floats>(threads, 2.0 * sizeof(Floats) / sizeof(float), Floats{} + 1e-6F,
                      [](Floats sum, Floats a, Floats b) { return sum * a + b; });
}

// 0: this build has no such instruction.
double bf16_peak([[maybe_unused]] int threads) {
#ifdef __AVX512BF16__
  const auto operand = __m512bh(_mm512_set1_epi16(0x3c00));
  return peak<__m512>(threads, 64, operand,
                      [](__m512 sum, __m512bh a, __m512bh b) { return _mm512_dpbf16_ps(sum, a, b); });
#else
  return 0;
#endif
}

double int8_peak([[maybe_unused]] int threads) {
#ifdef __AVX512VNNI__
  return peak<__m512i>(threads, 128, _mm512_set1_epi8(1),
                       [](__m512i sum, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(sum, a, b); });
#else
  return 0;
#endif
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--read") {
    std::printf("%.2f\n", read_bandwidth(std::max(std::atoi(argv[2]), 1)).mean / 1e9);
    return 0;
  }
  const int most = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  std::string out = "{";
  for (int threads = 1; threads <= std::max(most, 1); threads *= 2) {
    char line[256];
    std::snprintf(line, sizeof line,
                  "%s\"%d\":{\"read_gb_s\":%.2f,\"f32_gflops\":%.1f,\"bf16_gflops\":%.1f,\"int8_gops\":%.1f}",
                  threads > 1 ? "," : "", threads, read_bandwidth(threads).best / 1e9,
                  f32_peak(threads) / 1e9, bf16_peak(threads) / 1e9, int8_peak(threads) / 1e9);
    out += line;
  }
  std::puts((out + "}").c_str());
  return 0;
}
