// The generated lines and the hash of scripts/golden/tokenizer_lines.py, and the comparison with its goldens.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "core/json.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle::testing {

inline std::string read_golden(const std::string& name) {
  std::ifstream in(std::string(MC_GOLDEN_DIR) + "/tokenizer/" + name, std::ios::binary);
  EXPECT_TRUE(in) << "missing golden " << name;
  return (std::ostringstream() << in.rdbuf()).str();
}

inline Json golden_json(const std::string& name) { return Json::parse(read_golden(name)); }

/// Line generator: SplitMix64 choosing fragments.
class GoldenLines {
 public:
  GoldenLines() {
    const Json data = golden_json("fragments.json");
    words_ = data["words"];
    fragments_ = data["fragments"];
  }
  std::string line(std::uint64_t index) const {
    std::uint64_t state = index;
    const auto below = [&](std::uint64_t n) {
      state += 0x9E3779B97F4A7C15u;
      std::uint64_t z = state;
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
      return (z ^ (z >> 31)) % n;
    };
    std::string out;
    for (std::uint64_t left = 1 + below(16); left > 0; --left) {
      const bool word = below(3) < 2;
      out += word ? fragments_[below(words_)] : fragments_[words_ + below(fragments_.size() - words_)];
      if (below(3) < 2) out += ' ';
    }
    return out;
  }

 private:
  std::size_t words_ = 0;
  std::vector<std::string> fragments_;
};

/// Compares with "texts" (ids in full, text decoded) and "blocks" (hashes of the generated lines; 10,000 in
/// all).
inline void expect_golden(const Tokenizer& tokenizer, const Json& golden, const EncodeOptions& options = {}) {
  for (const Json& entry : golden["texts"]) {
    const std::string text = entry["text"];
    const std::vector<TokenId> want = entry["ids"];
    ASSERT_EQ(tokenizer.encode(text, options), want) << "text: " << entry.dump();
    const std::string back = entry.value("decoded", text);
    ASSERT_EQ(tokenizer.decode(want), back) << "text: " << entry.dump();
    const auto decoder = tokenizer.make_decoder();
    std::string streamed;
    for (const TokenId id : want) streamed += decoder->push(id);
    streamed += decoder->flush();
    ASSERT_EQ(streamed, back) << "streamed: " << entry.dump();
  }
  const GoldenLines lines;
  const std::size_t lines_per_hash = golden.value("block", std::size_t{50});
  std::size_t first = 0;
  for (const Json& block : golden["blocks"]) {
    std::uint64_t hash = 0xCBF29CE484222325u;
    for (std::size_t i = first; i < first + lines_per_hash; ++i) {
      auto ids = tokenizer.encode(lines.line(i), options);
      ids.push_back(-1);
      for (const TokenId id : ids) {
        for (int shift = 0; shift < 32; shift += 8) {
          hash = (hash ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xFF)) * 0x100000001B3u;
        }
      }
    }
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
    ASSERT_EQ(text, block.get<std::string>()) << "lines " << first << " to " << first + lines_per_hash - 1;
    first += lines_per_hash;
  }
  ASSERT_EQ(first, 10'000u);
}

}  // namespace metal_candle::testing
