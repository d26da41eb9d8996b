#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

std::size_t previous_char(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

}  // namespace

/// Nodes of a byte trie; the children of a node are a sorted run of edges.
struct AddedTokenFinder::Trie {
  struct Edge {
    unsigned char byte;
    std::uint32_t node;
  };
  struct Node {
    std::uint32_t first = 0, count = 0;  // edges
    std::int32_t token = -1;
  };
  std::vector<Node> nodes;
  std::vector<Edge> edges;
  std::array<bool, 256> starts{};
  int only_start = -1;  // the one byte that all tokens start with, if so

  explicit Trie(const std::vector<AddedToken>& tokens) {
    std::vector<std::int32_t> order;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      if (!tokens[i].content.empty()) order.push_back(static_cast<std::int32_t>(i));
    }
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return tokens[a].content < tokens[b].content; });
    nodes.emplace_back();
    struct Work {
      std::uint32_t node;
      std::size_t begin, end, depth;
    };
    std::vector<Work> stack{{0, 0, order.size(), 0}};
    while (!stack.empty()) {
      const Work w = stack.back();
      stack.pop_back();
      std::size_t i = w.begin;
      for (; i < w.end && tokens[order[i]].content.size() == w.depth; ++i) nodes[w.node].token = order[i];
      nodes[w.node].first = static_cast<std::uint32_t>(edges.size());
      while (i < w.end) {
        const auto byte = static_cast<unsigned char>(tokens[order[i]].content[w.depth]);
        std::size_t j = i;
        while (j < w.end && static_cast<unsigned char>(tokens[order[j]].content[w.depth]) == byte) ++j;
        edges.push_back({byte, static_cast<std::uint32_t>(nodes.size())});
        stack.push_back({static_cast<std::uint32_t>(nodes.size()), i, j, w.depth + 1});
        nodes.emplace_back();
        i = j;
      }
      nodes[w.node].count = static_cast<std::uint32_t>(edges.size()) - nodes[w.node].first;
    }
    for (std::uint32_t e = 0; e < nodes[0].count; ++e) starts[edges[nodes[0].first + e].byte] = true;
    if (nodes[0].count == 1) only_start = edges[nodes[0].first].byte;
  }

  /// First position from `at` on where a token may start; text.size() if none.
  std::size_t candidate(std::string_view text, std::size_t at) const {
    if (only_start >= 0) {
      const void* found = std::memchr(text.data() + at, only_start, text.size() - at);
      return found ? static_cast<std::size_t>(static_cast<const char*>(found) - text.data()) : text.size();
    }
    while (at < text.size() && !starts[static_cast<unsigned char>(text[at])]) ++at;
    return at;
  }

  /// The longest token at text[at], or -1.
  std::int32_t longest(std::string_view text, std::size_t at) const {
    std::int32_t best = -1;
    std::uint32_t node = 0;
    for (; at < text.size(); ++at) {
      const auto byte = static_cast<unsigned char>(text[at]);
      const auto begin = edges.begin() + nodes[node].first, end = begin + nodes[node].count;
      const auto edge =
          std::lower_bound(begin, end, byte, [](const Edge& e, unsigned char b) { return e.byte < b; });
      if (edge == end || edge->byte != byte) return best;
      node = edge->node;
      if (nodes[node].token >= 0) best = nodes[node].token;
    }
    return best;
  }
};

AddedTokenFinder::AddedTokenFinder() = default;
AddedTokenFinder::~AddedTokenFinder() = default;
AddedTokenFinder::AddedTokenFinder(AddedTokenFinder&&) noexcept = default;
AddedTokenFinder& AddedTokenFinder::operator=(AddedTokenFinder&&) noexcept = default;

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  if (!tokens_.empty()) trie_ = std::make_unique<Trie>(tokens_);
}

void AddedTokenFinder::split(std::string_view text, bool parse_special, std::vector<TextSpan>& out) const {
  std::size_t done = 0;
  for (std::size_t at = 0; trie_ && (at = trie_->candidate(text, at)) < text.size();) {
    const std::int32_t found = trie_->longest(text, at);
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(found)];
    std::size_t begin = at, end = at + token.content.size();
    at = end;
    if (token.special && !parse_special) continue;
    if (token.single_word || token.lstrip || token.rstrip) {
      const CharClasses classes;
      const auto space = [&](std::size_t i) {
        return (classes(read_utf8(text, i).code) & char_class_bits::space) != 0;
      };
      if (token.single_word &&
          ((begin > 0 && is_word_character(classes, read_utf8(text, previous_char(text, begin)).code)) ||
           (end < text.size() && is_word_character(classes, read_utf8(text, end).code)))) {
        continue;
      }
      if (token.lstrip) {
        while (begin > done && space(previous_char(text, begin))) begin = previous_char(text, begin);
        begin = std::max(begin, done);
      }
      if (token.rstrip) {
        while (end < text.size() && space(end)) end += read_utf8(text, end).length;
      }
    }
    if (done < begin) out.push_back({done, begin, -1});
    // White space that rstrip swallowed is still searched, as in tokenizers: a token found there follows.
    out.push_back({begin, std::max(begin, end), token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({done, text.size(), -1});
}

}  // namespace metal_candle
