// streaming MODEL [THREADS] [ROUNDS]: what token-by-token delivery costs against generate(), by iterator,
// callback and coroutine, on one short greedy prompt. Every round runs all four, each time in another order,
// so that a change of the machine's mood falls on all. Prints the overhead of the fastest runs (noise only
// adds) and the median of the rounds' own ratios.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <coroutine>
#include <cstdio>
#include <exception>
#include <future>
#include <string>
#include <vector>

#include "metal_candle/metal_candle.h"

namespace {

namespace mc = metal_candle;

const mc::Prompt kPrompt(std::vector<std::int32_t>{1, 2, 3, 4, 5});

/// A coroutine that starts at once and hands its result to a waiting thread.
struct Task {
  struct promise_type {
    std::promise<std::size_t> result;
    Task get_return_object() { return {result.get_future()}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_value(std::size_t bytes) { result.set_value(bytes); }
    void unhandled_exception() { result.set_exception(std::current_exception()); }
  };
  std::future<std::size_t> bytes;
};

Task await_all(mc::AsyncTokenStream stream) {
  std::string text;
  while (const auto token = co_await stream.next()) text += token->text;
  co_return text.size();
}

/// Each way reads the whole text and returns its length.
struct Way {
  const char* name;
  std::size_t (*run)(const std::shared_ptr<mc::Model>&, const mc::GenerateOptions&);
};

constexpr std::array<Way, 4> kWays{{
    {"generate",
     [](const auto& model, const auto& options) {
       return mc::Generator(model).generate(kPrompt, options).text.size();
     }},
    {"iterator",
     [](const auto& model, const auto& options) {
       std::string text;
       for (const mc::StreamToken& token : mc::Generator(model).generate_stream(kPrompt, options))
         text += token.text;
       return text.size();
     }},
    {"callback",
     [](const auto& model, const auto& options) {
       std::string text;
       mc::Generator(model).generate_stream(kPrompt, options, [&](const mc::StreamToken& token) {
         text += token.text;
         return true;
       });
       return text.size();
     }},
    {"async",
     [](const auto& model, const auto& options) {
       return await_all(mc::generate_stream_async(model, kPrompt, options)).bytes.get();
     }},
}};

/// Median, and the order statistics that hold the true median between them with 95% probability.
struct Estimate {
  double median, low, high;
  explicit Estimate(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    median = (values[(n - 1) / 2] + values[n / 2]) / 2;
    const double half = 0.98 * std::sqrt(static_cast<double>(n));
    const auto at = [&](double i) {
      return values[static_cast<std::size_t>(std::clamp(i, 0.0, static_cast<double>(n - 1)))];
    };
    low = at(std::floor(static_cast<double>(n) / 2 - half) - 1);
    high = at(std::ceil(static_cast<double>(n) / 2 + half));
  }
};

void measure(const std::shared_ptr<mc::Model>& model, std::uint32_t tokens, int rounds) {
  mc::GenerateOptions options;
  options.max_tokens = tokens;
  options.ignore_eos = true;
  std::array<std::vector<double>, kWays.size()> milliseconds, overhead;
  const std::size_t bytes = kWays[0].run(model, options);
  for (int round = 0; round < rounds; ++round) {
    std::array<double, kWays.size()> took{};
    for (std::size_t k = 0; k < kWays.size(); ++k) {
      const std::size_t way = (k + static_cast<std::size_t>(round)) % kWays.size();
      const auto start = std::chrono::steady_clock::now();
      if (kWays[way].run(model, options) != bytes)
        throw mc::Error(mc::ErrorCode::internal, std::string(kWays[way].name) + " gave another text");
      took[way] = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    }
    for (std::size_t way = 0; way < kWays.size(); ++way) {
      milliseconds[way].push_back(took[way]);
      overhead[way].push_back((took[way] / took[0] - 1) * 100);
    }
  }
  const auto fastest = [&](std::size_t way) {
    return *std::min_element(milliseconds[way].begin(), milliseconds[way].end());
  };
  for (std::size_t way = 0; way < kWays.size(); ++way) {
    std::printf("| %u | %s | %.2f | ", tokens, kWays[way].name, fastest(way));
    if (way == 0) {
      std::printf("| | |\n");
      continue;
    }
    const Estimate e(overhead[way]);
    std::printf("%+.2f%% | %+.2f%% | %+.2f%% to %+.2f%% |\n", (fastest(way) / fastest(0) - 1) * 100, e.median,
                e.low, e.high);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: streaming MODEL [THREADS] [ROUNDS]\n");
    return 2;
  }
  try {
    mc::LoadOptions load;
    load.threads = argc > 2 ? static_cast<unsigned>(std::stoul(argv[2])) : 0;
    const int rounds = argc > 3 ? std::max(std::stoi(argv[3]), 1) : 40;
    const auto model = mc::Model::load(argv[1], load);
    std::printf(
        "| tokens | delivery | fastest ms | overhead | median overhead | 95%% interval "
        "|\n|---|---|---|---|---|---|\n");
    for (const std::uint32_t tokens : {10u, 50u, 100u}) measure(model, tokens, rounds);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "streaming: %s\n", error.what());
    return 1;
  }
}
