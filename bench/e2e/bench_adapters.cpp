// bench_adapters MODEL DIR [THREADS]: what adapters cost on a model with adapters in DIR: r8, r64 and so on,
// which scripts/bench_adapters.py makes. Loading from a warm page cache, switching, and the overhead on
// decoding and on prompts. `bench_adapters --load DIR`: loading alone, in turn. `bench_adapters --resident
// ADAPTER COUNT`: the memory of many. Each round runs all the cases, in another order every time; figures are
// medians of the rounds' own ratios.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "metal_candle/metal_candle.h"

namespace {

namespace mc = metal_candle;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 7;

template <typename F>
double seconds(const F& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<std::int32_t> prompt(std::size_t tokens) {
  std::vector<std::int32_t> out(tokens);
  for (std::size_t i = 0; i < tokens; ++i) out[i] = static_cast<std::int32_t>(100 + 37 * i % 20000);
  return out;
}

struct Times {
  double prompt, decode;  // seconds
};

Times run(const std::shared_ptr<mc::Model>& model, const mc::AdapterChoice& adapters) {
  mc::GenerateOptions options;
  options.ignore_eos = true;
  options.adapters = adapters;
  options.max_tokens = 33;
  const mc::GenerationStats decoding = mc::Generator(model).generate(prompt(8), options).stats;
  options.max_tokens = 1;
  const mc::GenerationStats reading = mc::Generator(model).generate(prompt(512), options).stats;
  return {reading.prompt_seconds, decoding.decode_seconds / 32};
}

// 32 rows that decode together, on these adapters in turn.
double batch_seconds(const std::shared_ptr<mc::Model>& model, const std::vector<mc::AdapterChoice>& choices) {
  std::vector<mc::Prompt> prompts(32, mc::Prompt(prompt(4)));
  std::vector<mc::GenerateOptions> options(32);
  for (std::size_t i = 0; i < 32; ++i) {
    options[i].ignore_eos = true;
    options[i].max_tokens = 16;
    options[i].adapters = choices[i % choices.size()];
  }
  return seconds([&] { mc::Generator(model).generate_batch(prompts, options); });
}

void bench(const std::string& model_path, const std::string& directory, unsigned threads) {
  const auto model = mc::Model::load(model_path, {.threads = threads, .context_size = 1024});
  mc::AdapterRegistry registry;
  std::vector<std::string> names;
  for (const char* name : {"r8", "r32", "r64"}) {
    const std::string path = directory + "/" + name;
    registry.load_adapter(name, path);  // warms the page cache
    std::vector<double> times;
    for (int i = 0; i < 2 * kRounds; ++i) times.push_back(seconds([&] { mc::Adapter::load(path); }));
    const auto adapter = registry.get_adapter(name);
    const double first = seconds([&] { model->apply_adapter(adapter); });
    const double again = seconds([&] { model->apply_adapter(adapter); });
    model->remove_adapter();
    std::printf("%-4s load %.2f ms (%.2f GB/s), first use %.1f us, switch %.2f us, %.2f MB\n", name,
                1e3 * median(times), 1e-9 * static_cast<double>(adapter->info().bytes) / median(times),
                1e6 * first, 1e6 * again, 1e-6 * static_cast<double>(adapter->info().bytes));
    names.push_back(name);
  }
  std::vector<mc::AdapterChoice> cases{std::vector<mc::AdapterUse>{}};
  for (const std::string& name : names) cases.push_back(registry.resolve(name));
  for (const auto& choice : cases) run(model, choice);
  std::vector<std::vector<double>> prompt_ratios(cases.size()), decode_ratios(cases.size());
  Times plain{};
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Times> times(cases.size());
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const std::size_t at = (i + static_cast<std::size_t>(round)) % cases.size();
      times[at] = run(model, cases[at]);
    }
    plain = times[0];
    for (std::size_t i = 0; i < cases.size(); ++i) {
      prompt_ratios[i].push_back(times[i].prompt / times[0].prompt);
      decode_ratios[i].push_back(times[i].decode / times[0].decode);
    }
  }
  std::printf("plain %.1f tokens/s decoding, %.0f tokens/s on a 512-token prompt\n", 1 / plain.decode,
              512 / plain.prompt);
  for (std::size_t i = 1; i < cases.size(); ++i)
    std::printf("%-4s overhead %+.1f%% decoding, %+.1f%% on prompts\n", names[i - 1].c_str(),
                100 * (median(decode_ratios[i]) - 1), 100 * (median(prompt_ratios[i]) - 1));
  std::vector<mc::AdapterChoice> eight;
  for (int i = 0; i < 8; ++i)  // separate loads: separate matrices in memory
    eight.push_back(std::vector<mc::AdapterUse>{{mc::Adapter::load(directory + "/r8"), 1}});
  std::vector<double> ratios;
  for (int round = 0; round < kRounds; ++round) {
    const double one = batch_seconds(model, {eight[0]}), all = batch_seconds(model, eight);
    ratios.push_back(one / all);
  }
  std::printf("32 rows over 8 adapters: %.0f%% of the throughput of 32 rows on one\n", 100 * median(ratios));
}

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * 4096;
}

// Adapters loaded again and again, as fast as it goes, by a process that runs nothing else.
void loads(const std::string& directory) {
  constexpr int kLoads = 41;
  for (const char* name : {"r8", "r32", "r64"}) {
    const std::string path = directory + "/" + name;
    std::vector<double> times;
    for (int i = 0; i < kLoads; ++i) times.push_back(seconds([&] { mc::Adapter::load(path); }));
    const double bytes = static_cast<double>(mc::Adapter::load(path)->info().bytes);
    std::printf("%-4s load %.2f ms (%.2f GB/s), the first %.2f ms\n", name, 1e3 * median(times),
                1e-9 * bytes / median(times), 1e3 * times[0]);
  }
}

// What `count` loads of one adapter take in memory.
void resident(const std::string& path, int count) {
  mc::AdapterRegistry registry;
  registry.load_adapter("warm", path);
  const std::size_t before = resident_bytes();
  for (int i = 0; i < count; ++i) registry.load_adapter("a" + std::to_string(i), path);
  const double file = static_cast<double>(std::filesystem::file_size(path + "/adapter_model.safetensors"));
  const double each = static_cast<double>(resident_bytes() - before) / count;
  std::printf("%d adapters of %.2f MB resident: %.2f MB each, %+.1f%%\n", count, 1e-6 * file, 1e-6 * each,
              100 * (each / file - 1));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr,
                 "usage: bench_adapters MODEL DIR [THREADS], or --load DIR, or --resident ADAPTER [COUNT]\n");
    return 2;
  }
  try {
    if (std::string(argv[1]) == "--load") {
      loads(argv[2]);
      return 0;
    }
    if (std::string(argv[1]) == "--resident") {
      resident(argv[2], argc > 3 ? std::atoi(argv[3]) : 1000);
      return 0;
    }
    bench(argv[1], argv[2], argc > 3 ? static_cast<unsigned>(std::atoi(argv[3])) : 0);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
