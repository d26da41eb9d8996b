// The worker of bench_embed.py: embeds what it is told to and says how long it took. One JSON object a line
// on standard input, {"texts":[...],"repeat":n}; the best of n runs in seconds on standard output.
#include <chrono>
#include <exception>
#include <iostream>
#include <limits>
#include <string>

#include "core/json.h"
#include "metal_candle/embed.h"

namespace {

using namespace metal_candle;

double best_of(const EmbeddingModel& model, const std::vector<std::string>& texts, int repeat) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < repeat; ++i) {
    const auto start = std::chrono::steady_clock::now();
    model.embed(std::span<const std::string>(texts));
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: bench_embed MODEL f32|bf16|int8 THREADS\n";
    return 2;
  }
  try {
    EmbeddingLoadOptions options;
    const std::string dtype = argv[2];
    options.dtype = dtype == "f32"    ? EmbeddingDType::f32
                    : dtype == "int8" ? EmbeddingDType::int8
                                      : EmbeddingDType::bf16;
    options.threads = static_cast<unsigned>(std::stoul(argv[3]));
    const auto model = EmbeddingModel::load(argv[1], options);
    for (std::string line; std::getline(std::cin, line);) {
      const Json work = parse_json(line, "standard input");
      std::cout << best_of(*model, work.at("texts"), work.at("repeat")) << std::endl;
    }
  } catch (const std::exception& error) {
    std::cerr << "bench_embed: " << error.what() << "\n";
    return 1;
  }
}
