// The committed tiny models (tests/golden/models) as loaded decoders, with their reference.
#pragma once

#include <fstream>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "core/json.h"
#include "models/checkpoint.h"
#include "models/decoder_loader.h"
#include "models/registry.h"

namespace metal_candle::test {

using Row = std::vector<float>;

struct GoldenModel {
  Json reference;
  std::unique_ptr<Decoder> decoder;

  /// `file`: "dir" or "gguf".
  static GoldenModel load(const std::string& name, const std::string& file) {
    const std::string base = std::string(MC_GOLDEN_DIR) + "/models/" + name;
    std::ifstream in(base + "/reference.json");
    std::stringstream text;
    text << in.rdbuf();
    const Checkpoint checkpoint = Checkpoint::open(file == "gguf" ? base + "/model.gguf" : base);
    return {parse_json(text.str(), base),
            load_decoder(checkpoint.store(), make_decoder_spec(checkpoint.config()))};
  }

  std::vector<std::int32_t> prompt() const { return reference["prompt"].get<std::vector<std::int32_t>>(); }

  KvCache cache(std::size_t capacity = 64, simd::KvType type = simd::KvType::f32) const {
    return KvCache(decoder->kv_shape(type), capacity);
  }

  /// Logits of every row when `tokens` are fed in pieces of `chunk` to `cache`.
  std::vector<Row> logits(std::span<const std::int32_t> tokens, std::size_t chunk, KvCache& cache,
                          bool exact = true) const {
    std::vector<Row> out;
    for (std::size_t begin = 0; begin < tokens.size(); begin += chunk) {
      const std::size_t rows = std::min(chunk, tokens.size() - begin);
      std::vector<std::int32_t> all(rows);
      std::iota(all.begin(), all.end(), 0);
      const SequenceRows sequence{&cache, rows, exact ? 0 : kRoundedContext};
      const auto result = decoder->forward(tokens.subspan(begin, rows), {&sequence, 1}, all);
      const std::size_t vocab = decoder->spec().vocab;
      for (std::size_t i = 0; i < rows; ++i)
        out.emplace_back(result.data<float>() + i * vocab, result.data<float>() + (i + 1) * vocab);
    }
    return out;
  }
  std::vector<Row> logits(std::size_t chunk = 1000) const {
    KvCache fresh = cache();
    return logits(prompt(), chunk, fresh);
  }
};

inline double largest_difference(const Row& a, const Row& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
  return most;
}

}  // namespace metal_candle::test
