// Tokenizer speed: loading the demo model's vocabulary, and encoding as one text and line by line, for each
// family of tests/golden/tokenizer. bench/tokenizer_peer.py puts Python's tokenizers beside it.
#include <benchmark/benchmark.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "../tests/tokenizer/gguf_metadata.h"
#include "core/json.h"
#include "tokenizer/gguf_vocab.h"
#include "tokenizer/tokenizer_json.h"

namespace metal_candle {
namespace {

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return (std::ostringstream() << in.rdbuf()).str();
}

/// MC_BENCH_TEXT names the text; without it, half a megabyte of words from the goldens.
const std::string& text() {
  static const std::string out = [] {
    if (const char* path = std::getenv("MC_BENCH_TEXT")) return read_file(path);
    const Json data = Json::parse(read_file(MC_GOLDEN_DIR "/tokenizer/fragments.json"));
    std::string made;
    for (std::size_t i = 0; made.size() < 500'000; ++i) {
      made += data["fragments"][i * 7919 % data["words"].get<std::size_t>()].get<std::string>();
      made += i % 12 == 11 ? '\n' : ' ';
    }
    return made;
  }();
  return out;
}

const GgufVocab& demo_vocab() {
  static const testing::GgufMetadata metadata(MC_MODEL_DIR "/SmolLM2-135M-Instruct.Q4_1.gguf");
  static const GgufVocab vocab = metadata.vocab();
  return vocab;
}

void load_smollm2(benchmark::State& state) {
  demo_vocab();
  for (auto _ : state) benchmark::DoNotOptimize(make_tokenizer(demo_vocab()));
}
BENCHMARK(load_smollm2)->Unit(benchmark::kMillisecond);

void whole(benchmark::State& state, const Tokenizer* tokenizer) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->encode(text()));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text().size()));
}

void by_lines(benchmark::State& state, const Tokenizer* tokenizer) {
  for (auto _ : state) {
    std::string_view rest = text();
    while (!rest.empty()) {
      const std::size_t end = std::min(rest.find('\n'), rest.size());
      benchmark::DoNotOptimize(tokenizer->encode(rest.substr(0, end)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text().size()));
}

void decode(benchmark::State& state, const Tokenizer* tokenizer) {
  const auto ids = tokenizer->encode(text());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer->decode(ids));
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * text().size()));
}

void add(const std::string& name, std::unique_ptr<Tokenizer> tokenizer) {
  static std::vector<std::unique_ptr<Tokenizer>> kept;  // the benchmarks hold pointers
  const Tokenizer* t = kept.emplace_back(std::move(tokenizer)).get();
  benchmark::RegisterBenchmark(("encode/" + name).c_str(), whole, t)->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("encode_lines/" + name).c_str(), by_lines, t)->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, t)->Unit(benchmark::kMillisecond);
}

const bool kRegistered = [] {
  add("smollm2", make_tokenizer(demo_vocab()));
  for (const std::string family : {"bytes", "pieces", "unigram", "words"}) {
    const Json golden = Json::parse(read_file(MC_GOLDEN_DIR "/tokenizer/" + family + ".json"));
    for (const auto& [variant, value] : golden["variants"].items()) {
      Json json = golden["base"];
      for (const auto& [key, change] : value["changes"].items()) {
        (key.starts_with("model.") ? json["model"][key.substr(6)] : json[key]) = change;
      }
      add(family + "/" + variant, make_tokenizer(TokenizerJson{.json = json.dump()}));
    }
  }
  return true;
}();

}  // namespace
}  // namespace metal_candle
