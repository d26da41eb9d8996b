// What adapters cost, on what scripts/bench_adapters.py makes (docs/adapters.md):
//   bench_adapters load DIR                        DIR/r8, r32, r64 from a warm page cache, by a process that
//   does
//                                                  nothing else
//   bench_adapters overhead MODEL DIR [THREADS]    of each on decoding and on prompts; first use and switch
//   bench_adapters batch MODEL THREADS ADAPTER...  32 requests over all of them (one: loaded 8 times) and on
//   one bench_adapters resident ADAPTER [COUNT]        memory of many
// Each round runs all the cases, in another order every time; figures are medians of the rounds' own ratios.
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

constexpr int kRounds = 15;
constexpr std::uint32_t kTokens = 32;  // decoded in a round
constexpr const char* kRanks[] = {"r8", "r32", "r64"};

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
  options.max_tokens = 1 + kTokens;
  const mc::GenerationStats decoding = mc::Generator(model).generate(prompt(8), options).stats;
  options.max_tokens = 1;
  const mc::GenerationStats reading = mc::Generator(model).generate(prompt(512), options).stats;
  return {reading.prompt_seconds, decoding.decode_seconds / kTokens};
}

void loads(const std::string& directory) {
  constexpr int kLoads = 41;
  for (const char* name : kRanks) {
    const std::string path = directory + "/" + name;
    std::vector<double> times;
    for (int i = 0; i < kLoads; ++i) times.push_back(seconds([&] { mc::Adapter::load(path); }));
    const double bytes = static_cast<double>(mc::Adapter::load(path)->info().bytes);
    std::printf("%-4s load %.2f ms (%.2f GB/s), the first %.2f ms\n", name, 1e3 * median(times),
                1e-9 * bytes / median(times), 1e3 * times[0]);
  }
}

void overhead(const std::string& model_path, const std::string& directory, unsigned threads) {
  const auto model = mc::Model::load(model_path, {.threads = threads, .context_size = 1024});
  const double base_bytes = static_cast<double>(model->info().file_bytes);
  std::vector<mc::AdapterChoice> cases{std::vector<mc::AdapterUse>{}};
  for (const char* name : kRanks) {
    const auto adapter = mc::Adapter::load(directory + "/" + name);
    const double first = seconds([&] { model->apply_adapter(adapter); });
    const double again = seconds([&] { model->apply_adapter(adapter); });
    const double removal = seconds([&] { model->remove_adapter(); });
    std::printf("%-4s first use %.1f us, switch %.2f us, removal %.2f us\n", name, 1e6 * first, 1e6 * again,
                1e6 * removal);
    cases.push_back(std::vector<mc::AdapterUse>{{adapter, 1}});
  }
  for (const auto& choice : cases) run(model, choice);
  std::vector<std::vector<double>> prompt_ratios(cases.size()), decode_ratios(cases.size());
  std::vector<double> prompts, decodes;  // of the plain model
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Times> times(cases.size());
    for (std::size_t i = 0; i < cases.size(); ++i) {
      const std::size_t at = (i + static_cast<std::size_t>(round)) % cases.size();
      times[at] = run(model, cases[at]);
    }
    prompts.push_back(times[0].prompt);
    decodes.push_back(times[0].decode);
    for (std::size_t i = 0; i < cases.size(); ++i) {
      prompt_ratios[i].push_back(times[i].prompt / times[0].prompt);
      decode_ratios[i].push_back(times[i].decode / times[0].decode);
    }
  }
  std::printf("plain %.1f tokens/s decoding, %.0f tokens/s on a 512-token prompt\n", 1 / median(decodes),
              512 / median(prompts));
  for (std::size_t i = 1; i < cases.size(); ++i)
    std::printf("%-4s overhead %+.1f%% decoding, %+.1f%% on prompts; its bytes %.1f%% of the base's\n",
                kRanks[i - 1], 100 * (median(decode_ratios[i]) - 1), 100 * (median(prompt_ratios[i]) - 1),
                100 * static_cast<double>((*cases[i])[0].adapter->info().bytes) / base_bytes);
}

// Requests that run together, on these adapters in turn; generated tokens a second.
double batch_rate(const std::shared_ptr<mc::Model>& model, const std::vector<mc::AdapterChoice>& choices) {
  constexpr std::size_t kRequests = 32, kPrompt = 32, kNew = 32;
  std::vector<mc::Prompt> prompts(kRequests, mc::Prompt(prompt(kPrompt)));
  std::vector<mc::GenerateOptions> options(kRequests);
  for (std::size_t i = 0; i < kRequests; ++i) {
    options[i].ignore_eos = true;
    options[i].max_tokens = kNew;
    options[i].adapters = choices[i % choices.size()];
  }
  return kRequests * kNew / seconds([&] { mc::Generator(model).generate_batch(prompts, options); });
}

void batch(const std::string& model_path, unsigned threads, const std::vector<std::string>& paths) {
  const auto model = mc::Model::load(model_path, {.threads = threads, .context_size = 1024});
  std::vector<mc::AdapterChoice> all;
  const std::size_t count = paths.size() == 1 ? 8 : paths.size();
  for (std::size_t i = 0; i < count; ++i)  // separate loads: separate matrices in memory
    all.push_back(std::vector<mc::AdapterUse>{{mc::Adapter::load(paths[i % paths.size()]), 1}});
  batch_rate(model, all);
  std::vector<double> rates, ratios;
  for (int round = 0; round < kRounds; ++round) {
    const double one = batch_rate(model, {all[0]});
    rates.push_back(batch_rate(model, all));
    ratios.push_back(rates.back() / one);
  }
  std::printf("32 requests over %zu adapters: %.1f tokens/s, %.0f%% of 32 requests on one\n", count,
              median(rates), 100 * median(ratios));
}

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * 4096;
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

int usage() {
  std::fprintf(
      stderr,
      "usage: bench_adapters load DIR | overhead MODEL DIR [THREADS] | batch MODEL THREADS ADAPTER... | "
      "resident ADAPTER [COUNT]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const std::size_t count = arguments.size();
  const std::string verb = count > 0 ? arguments[0] : "";
  const auto number = [&](std::size_t i, int fallback) {
    return i < count ? std::stoi(arguments[i]) : fallback;
  };
  try {
    if (verb == "load" && count == 2)
      loads(arguments[1]);
    else if (verb == "overhead" && count >= 3)
      overhead(arguments[1], arguments[2], static_cast<unsigned>(number(3, 0)));
    else if (verb == "batch" && count >= 4)
      batch(arguments[1], static_cast<unsigned>(number(2, 0)), {arguments.begin() + 3, arguments.end()});
    else if (verb == "resident" && count >= 2)
      resident(arguments[1], number(2, 1000));
    else
      return usage();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
