// Byte-pair merging against a direct reading of its definition: find the best-ranked pair, leftmost first,
// join it, start over.
#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <thread>

#include "golden_lines.h"
#include "tokenizer/tokenizer_json.h"

namespace metal_candle {
namespace {

using Ids = std::vector<TokenId>;

struct Model {
  std::shared_ptr<const Vocabulary> vocabulary;
  std::vector<BpeMerge> merges;
};

/// Letters a to d and `count` random joins of what is there; `rank_of` gives each rule's rank.
template <typename RankOf>
Model random_model(unsigned seed, int count, const RankOf& rank_of) {
  std::mt19937 random(seed);
  std::vector<std::string> pieces{"a", "b", "c", "d"};
  std::vector<std::pair<std::size_t, std::size_t>> joins;
  while (static_cast<int>(joins.size()) < count) {
    const std::size_t left = random() % pieces.size(), right = random() % pieces.size();
    const std::string joined = pieces[left] + pieces[right];
    if (std::find(pieces.begin(), pieces.end(), joined) != pieces.end() || joined.size() > 12) continue;
    joins.emplace_back(left, right);
    pieces.push_back(joined);
  }
  const std::vector<std::string_view> views(pieces.begin(), pieces.end());
  Model model{std::make_shared<Vocabulary>(views), {}};
  for (std::size_t i = 0; i < joins.size(); ++i) {
    model.merges.push_back({static_cast<TokenId>(joins[i].first), static_cast<TokenId>(joins[i].second),
                            static_cast<TokenId>(4 + i), rank_of(i)});
  }
  return model;
}

Ids by_definition(const Model& model, const std::string& text) {
  std::map<std::pair<TokenId, TokenId>, BpeMerge> rules;
  for (const BpeMerge& m : model.merges) rules[{m.left, m.right}] = m;
  Ids ids;
  for (const char c : text) ids.push_back(c - 'a');
  for (;;) {
    std::size_t best = ids.size();
    std::uint32_t rank = ~0u;
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto rule = rules.find({ids[i], ids[i + 1]});
      if (rule != rules.end() && rule->second.rank < rank) {
        best = i;
        rank = rule->second.rank;
      }
    }
    if (best == ids.size()) return ids;
    ids[best] = rules.at({ids[best], ids[best + 1]}).merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

Ids encode(const TokenModel& bpe, std::string_view text) {
  Ids ids;
  bpe.encode(text, ids);
  return ids;
}

TEST(Bpe, MergesAsDefinedInShortAndLongWords) {
  for (const bool shared_ranks : {false, true}) {
    for (unsigned seed = 0; seed < 20; ++seed) {
      // With few rules some neighbours are never joined, and long words are cut between them.
      const Model model = random_model(seed, seed % 2 ? 60 : 8, [&](std::size_t i) {
        return static_cast<std::uint32_t>(shared_ranks ? i / 4 : i);
      });
      const Bpe bpe(model.vocabulary, model.merges, {});
      std::mt19937 random(seed + 1000);
      for (const std::size_t size : {1, 2, 3, 7, 20, 47, 48, 49, 50, 100, 400}) {
        for (int repeat = 0; repeat < 10; ++repeat) {
          std::string text;
          while (text.size() < size) text += static_cast<char>('a' + random() % 4);
          ASSERT_EQ(encode(bpe, text), by_definition(model, text)) << text;
          ASSERT_EQ(encode(bpe, text), by_definition(model, text)) << "the second time: " << text;
        }
      }
    }
  }
}

TEST(Bpe, IgnoreMergesTakesWholeTokens) {
  const std::string_view pieces[] = {"a", "b", "ab", "abab"};
  const auto vocabulary = std::make_shared<Vocabulary>(pieces);
  const BpeMerge merges[] = {{0, 1, 2, 0}};  // nothing leads to "abab"
  EXPECT_EQ(encode(Bpe(vocabulary, merges, {}), "abab"), (Ids{2, 2}));
  BpeOptions options;
  options.ignore_merges = true;
  EXPECT_EQ(encode(Bpe(vocabulary, merges, options), "abab"), (Ids{3}));
}

TEST(Bpe, UnknownCharactersAreFusedSpelledOrDropped) {
  const std::string_view pieces[] = {"a", "?", "<0xC3>", "<0xA9>"};
  const auto vocabulary = std::make_shared<Vocabulary>(pieces);
  BpeOptions options;
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options), "axya"), (Ids{0, 0}));
  options.unknown = 1;
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options), "axya"), (Ids{0, 1, 1, 0}));
  options.fuse_unknown = true;
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options), "axya"), (Ids{0, 1, 0}));
  options.byte_fallback = true;
  EXPECT_EQ(encode(Bpe(vocabulary, {}, options), "a\xC3\xA9x"), (Ids{0, 2, 3, 1}));
}

TEST(Bpe, ThreadsShareATokenizer) {
  const Json family = testing::golden_json("bytes.json");
  Json json = family["base"];
  json["pre_tokenizer"] = family["variants"]["gpt-2"]["changes"]["pre_tokenizer"];
  const std::string text = json.dump();
  const testing::GoldenLines lines;
  std::vector<Ids> want;
  const auto alone = make_tokenizer(TokenizerJson{.json = text});
  for (int i = 0; i < 500; ++i) want.push_back(alone->encode(lines.line(i)));
  const auto shared = make_tokenizer(TokenizerJson{.json = text});  // nothing learnt yet
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) wrong[t] += shared->encode(lines.line(i)) != want[i];
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace metal_candle
