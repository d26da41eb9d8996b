// The verb bench: speed of prompts and of decoding, load time and memory, on tokens drawn at random.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Each repetition reads a new random prompt of -p tokens and then decodes -n tokens, greedily; the median of
the repetitions is reported. With -b several requests run at once and their tokens count together: the prompts'
until the last of them is read, then what decoding -n tokens of each adds to the same work.

Examples:
  metal-candle bench -m model.gguf
  metal-candle bench -m model.gguf -p 512 -n 128 -b 1 -t 2 --json)";

struct Flags {
  ModelFlags model;
  std::uint32_t prompt = 512, decode = 128, batch = 1, repetitions = 3;
  bool json = false;
};

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Tokens per second.
struct Speed {
  double prompt = 0, decode = 0;
};

class Bench {
 public:
  Bench(std::shared_ptr<Model> model, const Flags& flags) : model_(std::move(model)), flags_(flags) {}

  /// Measures once. Random prompts, so that no cache of an earlier one can answer.
  Speed measure() {
    if (flags_.batch == 1) {
      const GenerationStats stats = one(random_prompt(flags_.prompt), flags_.decode + 1);
      return {stats.prompt_tokens_per_second(), stats.decode_tokens_per_second()};
    }
    // Requests whose prompts are read first decode beside the other prompts, so no moment divides prompts
    // from decoding: a batch of one token each times the prompts, and what decoding adds to it is decoding's.
    const double prompts = all_at_once(1);
    const double both = all_at_once(flags_.decode + 1);
    const double rows = flags_.batch;
    return {rows * flags_.prompt / prompts, rows * flags_.decode / std::max(both - prompts, 1e-9)};
  }

  void warm_up() { one(random_prompt(std::min(flags_.prompt, 32u)), 4); }

 private:
  std::vector<std::int32_t> random_prompt(std::uint32_t n) {
    std::uniform_int_distribution<std::int32_t> any(0,
                                                    static_cast<std::int32_t>(model_->info().vocab_size) - 1);
    std::vector<std::int32_t> out(n);
    for (std::int32_t& id : out) id = any(random_);
    return out;
  }

  static GenerateOptions exactly(std::uint32_t tokens) {
    GenerateOptions options;
    options.max_tokens = tokens;
    options.ignore_eos = true;
    return options;
  }

  GenerationStats one(const std::vector<std::int32_t>& prompt, std::uint32_t tokens) const {
    return Generator(model_).generate(prompt, exactly(tokens)).stats;
  }

  /// Seconds for the whole batch.
  double all_at_once(std::uint32_t tokens) {
    std::vector<Prompt> prompts;
    prompts.reserve(flags_.batch);
    for (std::uint32_t i = 0; i < flags_.batch; ++i) prompts.emplace_back(random_prompt(flags_.prompt));
    const auto start = Clock::now();
    Generator(model_).generate_batch(prompts, exactly(tokens));
    return since(start);
  }

  std::shared_ptr<Model> model_;
  const Flags& flags_;
  std::mt19937 random_{1};
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

std::uint64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  return static_cast<std::uint64_t>(usage.ru_maxrss);
#else
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
#endif
}

void run(Flags flags) {
  const std::uint32_t positions = flags.prompt + flags.decode + 1;
  if (flags.model.context_size == 0) flags.model.context_size = std::max(positions, 512u);
  const auto start = Clock::now();
  const std::shared_ptr<Model> model = flags.model.load();
  const double load_seconds = since(start);
  Bench bench(model, flags);
  bench.warm_up();
  std::vector<double> prompt, decode;
  ProgressBar bar("measuring");
  for (std::uint32_t i = 0; i < flags.repetitions; ++i) {
    const Speed speed = bench.measure();
    prompt.push_back(speed.prompt);
    decode.push_back(speed.decode);
    bar.show((i + 1.0) / flags.repetitions);
  }
  const std::uint64_t peak = peak_memory_bytes();
  if (flags.json) {
    return write_json_line({{"prompt_tokens_per_second", median(prompt)},
                            {"decode_tokens_per_second", median(decode)},
                            {"load_seconds", load_seconds},
                            {"peak_memory_bytes", peak},
                            {"prompt_tokens", flags.prompt},
                            {"decode_tokens", flags.decode},
                            {"batch", flags.batch},
                            {"repetitions", flags.repetitions}});
  }
  write_result("prompt   " + fixed(median(prompt), 1) + " tokens/s (" + std::to_string(flags.prompt) +
               " tokens)\n" + "decode   " + fixed(median(decode), 1) + " tokens/s (" +
               std::to_string(flags.decode) + " tokens)\n" + "load     " + fixed(load_seconds, 3) + " s\n" +
               "memory   " + human_bytes(peak) + " at most\n");
}

}  // namespace

void add_bench(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("bench", "Measure prompt and decode speed, load time and memory");
  app->footer(kFooter);
  const auto add = [&](const char* names, std::uint32_t& target, const char* help, std::uint32_t least) {
    app->add_option(names, target, help)->check(count_from(least))->type_name("N")->capture_default_str();
  };
  add("-p,--prompt-tokens", flags->prompt, "Tokens in the prompt", 1);
  add("-n,--decode-tokens", flags->decode, "Tokens to decode after it", 1);
  add("-b,--batch", flags->batch, "Requests at once", 1);
  add("-r,--repetitions", flags->repetitions, "Repetitions; the median counts", 1);
  app->add_flag("--json", flags->json, "One JSON object");
  flags->model.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
