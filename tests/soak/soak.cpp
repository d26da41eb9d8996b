// Hours of use in minutes: several threads generate on one model with random requests, cancel some, send some
// bad ones and reload the model now and then. Run by scripts/soak.sh: soak MODEL SECONDS. Fails if an answer
// changes, an error has the wrong code, or memory grows. Not a unit test; those are in the folders beside
// this one.
#include <atomic>
#include <chrono>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "metal_candle/metal_candle.h"

namespace {

namespace mc = metal_candle;
using Clock = std::chrono::steady_clock;

constexpr unsigned kClients = 3;
// What an allocator may keep without a leak: measured growth of a clean run is below 10 MB.
constexpr std::size_t kAllowedGrowth = std::size_t{32} << 20;

std::size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * 4096;
}

struct Failures {
  std::mutex mutex;
  std::vector<std::string> messages;
  void add(std::string message) {
    const std::lock_guard lock(mutex);
    messages.push_back(std::move(message));
  }
};

mc::GenerateOptions random_options(std::mt19937& random) {
  mc::GenerateOptions options;
  options.max_tokens = 1 + random() % 48;
  options.ignore_eos = true;
  if (random() % 2) {
    options.sampling.temperature = 0.8f;
    options.sampling.top_k = static_cast<std::int32_t>(random() % 50);
    options.sampling.top_p = 0.9f;
    options.sampling.seed = random();
  }
  return options;
}

// One request; returns how many tokens it made.
std::size_t request(const std::shared_ptr<mc::Model>& model, const std::string& expected,
                    std::mt19937& random, Failures& failures) {
  mc::Generator generator(model);
  switch (random() % 4) {
    case 0: {  // the same question always has the same answer
      mc::GenerateOptions options;
      options.max_tokens = 24;
      if (generator.generate("The candle", options).text != expected) failures.add("a greedy answer changed");
      return options.max_tokens;
    }
    case 1: {  // walk away in the middle
      auto stream = generator.generate_stream("Once upon a time", random_options(random));
      std::size_t wanted = random() % 8, seen = 0;
      while (seen < wanted && stream.next()) ++seen;
      return seen;
    }
    case 2: {  // a bad request harms nobody else
      mc::GenerateOptions options;
      options.sampling.temperature = -1;
      try {
        generator.generate("Hello", options);
        failures.add("a negative temperature was accepted");
      } catch (const mc::Error& error) {
        if (error.code() != mc::ErrorCode::invalid_argument) failures.add(error.what());
      }
      return 0;
    }
    default:
      return generator
          .generate(std::string(1 + random() % 400, 'a' + static_cast<char>(random() % 26)),
                    random_options(random))
          .tokens.size();
  }
}

int run(const std::string& path, double seconds) {
  mc::LoadOptions load;
  load.context_size = 1024;
  mc::GenerateOptions greedy;
  greedy.max_tokens = 24;
  auto model = mc::Model::load(path, load);
  const std::string expected = mc::Generator(model).generate("The candle", greedy).text;

  Failures failures;
  std::size_t tokens = 0, warm = 0;
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  for (unsigned round = 0; elapsed() < seconds && failures.messages.empty(); ++round) {
    std::atomic<std::size_t> made{0};
    std::vector<std::thread> clients;
    for (unsigned client = 0; client < kClients; ++client) {
      clients.emplace_back([&, client] {
        std::mt19937 random(round * kClients + client);
        try {
          for (int i = 0; i < 8; ++i) made += request(model, expected, random, failures);
        } catch (const std::exception& error) {
          failures.add(error.what());
        }
      });
    }
    for (auto& client : clients) client.join();
    tokens += made;
    if (round % 8 == 7) {
      model.reset();
      model = mc::Model::load(path, load);
    }
    if (warm == 0 && elapsed() > seconds / 4) warm = resident_bytes();
  }
  const std::size_t end = resident_bytes();
  std::cout << "soak: " << tokens << " tokens in " << elapsed() << " s; resident " << (warm >> 20)
            << " MB, then " << (end >> 20) << " MB\n";
  if (end > warm + kAllowedGrowth)
    failures.add("memory grew by " + std::to_string((end - warm) >> 20) + " MB");
  for (const auto& message : failures.messages) std::cout << "soak: FAILED: " << message << "\n";
  return failures.messages.empty() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: soak MODEL SECONDS\n";
    return 2;
  }
  return run(argv[1], std::stod(argv[2]));
}
