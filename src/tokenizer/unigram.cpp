#include "tokenizer/unigram.h"

#include <algorithm>
#include <limits>

#include "tokenizer/fail.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {
constexpr double kUnknownPenalty =
    10.0;  // SentencePiece's: an unknown scores this much below the worst piece
}

Unigram::Unigram(std::shared_ptr<const Vocabulary> vocabulary, std::span<const double> scores,
                 TokenId unknown, bool byte_fallback)
    : vocabulary_(std::move(vocabulary)),
      scores_(scores.begin(), scores.end()),
      unknown_(unknown),
      byte_fallback_(byte_fallback) {
  double worst = std::numeric_limits<double>::infinity();
  for (const double score : scores_) worst = std::min(worst, score);
  unknown_score_ = worst - kUnknownPenalty;
  for (unsigned byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    const char name[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    byte_ids_[byte] = vocabulary_->find({name, sizeof name});
  }

  std::vector<TokenId> order;
  for (std::size_t i = 0; i < vocabulary_->size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (!vocabulary_->piece(id).empty()) order.push_back(id);
  }
  const auto text = [&](TokenId id) { return vocabulary_->piece(id); };
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return text(a) < text(b); });
  struct Work {
    std::uint32_t node;
    std::size_t begin, end, depth;
  };
  nodes_.emplace_back();
  std::vector<Work> stack{{0, 0, order.size(), 0}};
  while (!stack.empty()) {
    const Work w = stack.back();
    stack.pop_back();
    std::size_t i = w.begin;
    for (; i < w.end && text(order[i]).size() == w.depth; ++i) nodes_[w.node].token = order[i];
    const auto first = static_cast<std::uint32_t>(nodes_.size());
    std::array<std::uint8_t, 256> ranks{};
    std::array<unsigned char, kFew> bytes{};
    std::uint32_t count = 0;
    while (i < w.end) {
      const char byte = text(order[i])[w.depth];
      std::size_t j = i;
      while (j < w.end && text(order[j])[w.depth] == byte) ++j;
      stack.push_back({first + count, i, j, w.depth + 1});
      if (count < kFew) bytes[count] = static_cast<unsigned char>(byte);
      ranks[static_cast<unsigned char>(byte)] = static_cast<std::uint8_t>(++count);
      i = j;
    }
    Node& node = nodes_[w.node];
    node.first = first;
    node.count = count;
    node.bytes = bytes;
    node.row = static_cast<std::uint32_t>(ranks_.size());
    if (count > kFew) ranks_.push_back(ranks);
    nodes_.resize(nodes_.size() + count);
  }
}

const Unigram::Node* Unigram::child(const Node& node, unsigned char byte) const noexcept {
  if (node.count > kFew) {
    const unsigned rank = ranks_[node.row][byte];
    return rank > 0 ? &nodes_[node.first + rank - 1] : nullptr;
  }
  for (unsigned i = 0; i < node.count; ++i)
    if (node.bytes[i] == byte) return &nodes_[node.first + i];
  return nullptr;
}

void Unigram::encode(std::string_view piece, std::vector<TokenId>& out) const {
  struct Best {  // path that ends here
    double score = 0;
    std::uint32_t from = ~std::uint32_t{0};
    TokenId token = -1;
  };
  std::vector<Best> best(piece.size() + 1);
  const auto offer = [&](std::size_t from, std::size_t to, double score, TokenId token) {
    score += best[from].score;
    if (best[to].from == ~std::uint32_t{0} || score > best[to].score) {
      best[to] = {score, static_cast<std::uint32_t>(from), token};
    }
  };
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = read_utf8(piece, at).length;
    bool single = false;  // a piece of exactly this character
    const Node* node = &nodes_[0];
    for (std::size_t end = at; end < piece.size();) {
      node = child(*node, static_cast<unsigned char>(piece[end]));
      if (!node) break;
      ++end;
      if (node->token < 0) continue;
      offer(at, end, scores_[static_cast<std::size_t>(node->token)], node->token);
      single |= end - at == length;
    }
    if (!single) {
      if (unknown_ < 0) {
        fail_tokenizer(ErrorCode::invalid_argument, "tokenizer: the vocabulary has no token for '" +
                                                        std::string(piece.substr(at, length)) +
                                                        "' and no unknown token");
      }
      offer(at, at + length, unknown_score_, unknown_);
    }
    at += length;
  }

  std::vector<std::uint32_t> ends;  // of the path's steps, last first
  for (auto end = static_cast<std::uint32_t>(piece.size()); end > 0; end = best[end].from)
    ends.push_back(end);
  std::size_t unknown_from = piece.size();  // where a run of unknown characters began
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const Best& step = best[*end];
    if (step.token == unknown_) {
      unknown_from = std::min<std::size_t>(unknown_from, step.from);
      continue;
    }
    if (unknown_from < step.from) push_unknown(piece.substr(unknown_from, step.from - unknown_from), out);
    unknown_from = piece.size();
    out.push_back(step.token);
  }
  if (unknown_from < piece.size()) push_unknown(piece.substr(unknown_from), out);
}

void Unigram::push_unknown(std::string_view text, std::vector<TokenId>& out) const {
  if (const TokenId id = vocabulary_->find(text); id >= 0) return out.push_back(id);
  const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
  if (byte_fallback_ && std::all_of(text.begin(), text.end(), [&](char c) { return byte_id(c) >= 0; })) {
    for (const char c : text) out.push_back(byte_id(c));
    return;
  }
  out.push_back(unknown_);
}

}  // namespace metal_candle
