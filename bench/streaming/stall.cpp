// How long a long prompt keeps a running stream waiting: bench_stall MODEL [PROMPT_TOKENS] [THREADS]. Prints
// the median and the longest gap between two tokens of the stream, alone and while the prompt is read.
#include <metal_candle/metal_candle.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace mc = metal_candle;
using Clock = std::chrono::steady_clock;

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fprintf(stderr, "usage: bench_stall MODEL [PROMPT_TOKENS] [THREADS]\n");
    return 2;
  }
  const auto prompt_tokens = static_cast<std::uint32_t>(argc > 2 ? std::atoi(argv[2]) : 3000);
  mc::LoadOptions load;
  load.threads = static_cast<unsigned>(argc > 3 ? std::atoi(argv[3]) : 0);
  load.context_size = prompt_tokens + 16;
  const auto model = mc::Model::load(argv[1], load);
  mc::GenerateOptions options;
  options.ignore_eos = true;
  options.max_tokens = 4000;
  auto stream = mc::Generator(model).generate_stream("Once upon a time", options);

  std::vector<double> gaps[2];  // milliseconds: alone, beside the prompt
  const auto read = [&](std::vector<double>& into, auto until) {
    for (auto last = Clock::now(); !until() && stream.next();) {
      const auto now = Clock::now();
      into.push_back(std::chrono::duration<double, std::milli>(now - last).count());
      last = now;
    }
  };
  int alone = 200;
  read(gaps[0], [&] { return alone-- == 0; });
  std::vector<std::int32_t> prompt(prompt_tokens);
  for (std::size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<std::int32_t>(i % 1000 + 100);
  mc::GenerateOptions one;
  one.max_tokens = 1;
  std::atomic<bool> read_whole = false;
  const std::jthread other([&] {
    mc::Generator(model).generate(prompt, one);
    read_whole = true;
  });
  read(gaps[1], [&] { return read_whole.load(); });
  stream.cancel();

  const char* names[] = {"alone", "beside the prompt"};
  for (int i = 0; i < 2; ++i) {
    std::sort(gaps[i].begin(), gaps[i].end());
    if (!gaps[i].empty())
      std::printf("%-18s %5zu tokens, median %6.2f ms, longest %6.2f ms\n", names[i], gaps[i].size(),
                  gaps[i][gaps[i].size() / 2], gaps[i].back());
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_stall: %s\n", error.what());
  return 1;
}
