#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>

#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

constexpr std::size_t kShort = 48;  // symbols up to which the quadratic loop wins
constexpr std::string_view kWordStart = "▁";
constexpr std::size_t kStackBytes = 128;  // pre-tokens up to this size are spelled on the stack

std::uint64_t pair_of(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

std::size_t slot_of(std::uint64_t pair, std::size_t mask) {
  return static_cast<std::size_t>((pair ^ pair >> 29) * 0x9E3779B97F4A7C15u >> 32) & mask;
}

}  // namespace

std::optional<BpeMerge> find_merge(const Vocabulary& vocabulary, std::string_view left,
                                   std::string_view right, std::size_t rank, std::string_view prefix,
                                   TokenId guess) {
  BpeMerge merge{vocabulary.find(left), vocabulary.find(right), guess, static_cast<std::uint32_t>(rank)};
  const std::string_view rest = right.starts_with(prefix) ? right.substr(prefix.size()) : right;
  const std::string_view guessed = vocabulary.piece(guess);
  if (guessed.size() != left.size() + rest.size() || !guessed.starts_with(left) || !guessed.ends_with(rest)) {
    merge.merged = vocabulary.find(std::string(left).append(rest));
  }
  if (merge.left < 0 || merge.right < 0 || merge.merged < 0) return std::nullopt;
  return merge;
}

Bpe::Bpe(std::shared_ptr<const Vocabulary> vocabulary, std::span<const BpeMerge> merges, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  rules_.resize(std::bit_ceil(merges.size() + merges.size() / 2 + 1));
  const std::size_t mask = rules_.size() - 1;
  for (const BpeMerge& merge : merges) {
    const std::uint64_t pair = pair_of(merge.left, merge.right);
    std::size_t at = slot_of(pair, mask);
    while (rules_[at].rank != kNoRank && rules_[at].pair != pair) at = (at + 1) & mask;
    rules_[at] = {pair, merge.rank, merge.merged};  // a repeated rule: the last counts
  }
  cut_at_words_ = words_are_separate();
  for (unsigned byte = 0; byte < 256; ++byte) {
    const ByteLevelChar& c = kByteLevelChars[byte];
    byte_ids_[byte] = vocabulary_->find({c.utf8, c.length});
    const char self = static_cast<char>(byte);
    ascii_ids_[byte] = byte < 0x80 ? vocabulary_->find({&self, 1}) : -1;
    constexpr char kHex[] = "0123456789ABCDEF";
    const char name[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    fallback_ids_[byte] = vocabulary_->find({name, sizeof name});
  }
  word_start_id_ = vocabulary_->find(kWordStart);
  reachable_ = std::make_unique<std::atomic<std::uint8_t>[]>(vocabulary_->size());
}

bool Bpe::words_are_separate() const {
  if (options_.byte_level || options_.ignore_merges || !options_.continuing_prefix.empty() ||
      !options_.end_suffix.empty() || vocabulary_->find(kWordStart) < 0) {
    return false;
  }
  return std::all_of(rules_.begin(), rules_.end(), [&](const Rule& r) {
    if (r.rank == kNoRank) return true;
    std::string_view text = vocabulary_->piece(r.merged);
    while (text.starts_with(kWordStart)) text.remove_prefix(kWordStart.size());
    return text.find(kWordStart) == std::string_view::npos;
  });
}

const Bpe::Rule& Bpe::rule(TokenId left, TokenId right) const noexcept {
  const std::uint64_t pair = pair_of(left, right);
  const std::size_t mask = rules_.size() - 1;
  std::size_t at = slot_of(pair, mask);
  while (rules_[at].rank != kNoRank && rules_[at].pair != pair) at = (at + 1) & mask;
  return rules_[at];
}

TokenId Bpe::whole(std::string_view piece) const {
  if (piece.size() > vocabulary_->longest()) return -1;
  if (!options_.byte_level) return vocabulary_->find(piece);
  if (piece.size() > kStackBytes) {
    std::string spelled;
    append_byte_level(piece, spelled);
    return vocabulary_->find(spelled);
  }
  char spelled[2 * kStackBytes];
  std::size_t size = 0;
  for (const char c : piece) {
    const ByteLevelChar& mapped = kByteLevelChars[static_cast<unsigned char>(c)];
    spelled[size] = mapped.utf8[0];
    spelled[size + 1] = mapped.utf8[1];
    size += mapped.length;
  }
  return vocabulary_->find({spelled, size});
}

void Bpe::encode(std::string_view piece, std::vector<TokenId>& out) const {
  if (!cut_at_words_) return encode_word(piece, out);
  std::size_t begin = 0, from = 0;
  for (;;) {
    while (piece.substr(from).starts_with(kWordStart)) from += kWordStart.size();
    const std::size_t end = std::min(piece.find(kWordStart, from), piece.size());
    encode_word(piece.substr(begin, end - begin), out);
    if (end == piece.size()) return;
    begin = from = end;
  }
}

void Bpe::encode_word(std::string_view piece, std::vector<TokenId>& out) const {
  // Most words of a text are one token: one look-up, once it is known that the merges lead there.
  const bool affixed = !options_.continuing_prefix.empty() || !options_.end_suffix.empty();
  const TokenId id = affixed && !options_.ignore_merges ? -1 : whole(piece);
  if (id >= 0) {
    if (options_.ignore_merges) return out.push_back(id);
    std::atomic<std::uint8_t>& known = reachable_[static_cast<std::size_t>(id)];
    std::uint8_t state = known.load(std::memory_order_relaxed);
    if (state == 0) {
      std::vector<TokenId> ids;
      merge(piece, ids);
      state = ids.size() == 1 && ids[0] == id ? 1 : 2;
      known.store(state, std::memory_order_relaxed);
    }
    if (state == 1) return out.push_back(id);
  }
  merge(piece, out);
}

void Bpe::character_symbols(std::string_view piece, std::vector<TokenId>& out) const {
  bool unknown_held = false;  // an unknown token waits, so that the next can join it
  std::string affixed;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = read_utf8(piece, at).length;
    std::string_view symbol = piece.substr(at, length);
    const bool first = at == 0, last = at + length == piece.size();
    at += length;
    if ((!first && !options_.continuing_prefix.empty()) || (last && !options_.end_suffix.empty())) {
      affixed = first ? "" : options_.continuing_prefix;
      affixed += symbol;
      if (last) affixed += options_.end_suffix;
      symbol = affixed;
    }
    const TokenId id = vocabulary_->find(symbol);
    if (id >= 0) {
      if (unknown_held) out.push_back(options_.unknown);
      unknown_held = false;
      out.push_back(id);
      continue;
    }
    const auto fallback = [&](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback &&
        std::all_of(symbol.begin(), symbol.end(), [&](char c) { return fallback(c) >= 0; })) {
      for (const char c : symbol) out.push_back(fallback(c));
      continue;
    }
    if (options_.unknown < 0) continue;
    if (unknown_held && !options_.fuse_unknown) out.push_back(options_.unknown);
    unknown_held = true;
  }
  if (unknown_held) out.push_back(options_.unknown);
}

std::size_t Bpe::known_characters(std::string_view piece, TokenId* ids) const {
  if (!options_.continuing_prefix.empty() || !options_.end_suffix.empty()) return 0;
  std::size_t count = 0;
  for (std::size_t at = 0; at < piece.size(); ++count) {
    const auto byte = static_cast<unsigned char>(piece[at]);
    if (byte < 0x80) {
      ids[count] = ascii_ids_[byte];
      ++at;
    } else if (piece.substr(at).starts_with(kWordStart)) {
      ids[count] = word_start_id_;
      at += kWordStart.size();
    } else {
      const std::size_t length = read_utf8(piece, at).length;
      ids[count] = vocabulary_->find(piece.substr(at, length));
      at += length;
    }
    if (ids[count] < 0) return 0;
  }
  return count;
}

/// Merging with a heap over a linked list, for long words.
struct Bpe::LongWord {
  struct Node {
    TokenId id;
    std::uint32_t previous, next;
  };
  struct Candidate {
    std::uint32_t rank, at;
    TokenId left, right;
    bool operator<(const Candidate& other) const {  // the heap's top: lowest rank, then leftmost
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  static constexpr std::uint32_t kEnd = ~std::uint32_t{0};

  static void merge(const Bpe& bpe, std::span<const TokenId> symbols, std::vector<TokenId>& out) {
    std::vector<Node> nodes(symbols.size());
    std::vector<Candidate> initial;
    const auto count = static_cast<std::uint32_t>(symbols.size());
    for (std::uint32_t i = 0; i < count; ++i) {
      nodes[i] = {symbols[i], i == 0 ? kEnd : i - 1, i + 1 == count ? kEnd : i + 1};
      if (i + 1 == count) break;
      const Rule& r = bpe.rule(symbols[i], symbols[i + 1]);
      if (r.rank != kNoRank) initial.push_back({r.rank, i, symbols[i], symbols[i + 1]});
    }
    std::priority_queue<Candidate> queue(std::less<Candidate>{}, std::move(initial));
    const auto consider = [&](std::uint32_t at) {
      const TokenId left = nodes[at].id, right = nodes[nodes[at].next].id;
      const Rule& r = bpe.rule(left, right);
      if (r.rank != kNoRank) queue.push({r.rank, at, left, right});
    };
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      Node& node = nodes[top.at];
      if (node.id != top.left || node.next == kEnd || nodes[node.next].id != top.right) continue;  // outdated
      node.id = bpe.rule(top.left, top.right).merged;
      nodes[node.next].id = -1;
      node.next = nodes[node.next].next;
      if (node.next != kEnd) {
        nodes[node.next].previous = top.at;
        consider(top.at);
      }
      if (node.previous != kEnd) consider(node.previous);
    }
    for (std::uint32_t i = 0; i != kEnd; i = nodes[i].next) out.push_back(nodes[i].id);
  }
};

void Bpe::merge(std::string_view piece, std::vector<TokenId>& out) const {
  TokenId ids[kShort];
  std::size_t count = 0;
  if (piece.size() <= kShort && !options_.byte_level) count = known_characters(piece, ids);
  if (count > 0) {
    // nothing unknown in it
  } else if (options_.byte_level && piece.size() <= kShort) {
    for (const char c : piece) {
      TokenId id = byte_ids_[static_cast<unsigned char>(c)];
      if (id < 0) id = options_.unknown;
      if (id >= 0) ids[count++] = id;
    }
  } else {
    std::vector<TokenId> symbols;
    if (options_.byte_level) {
      std::string spelled;
      append_byte_level(piece, spelled);
      character_symbols(spelled, symbols);
    } else {
      character_symbols(piece, symbols);
    }
    if (symbols.size() > kShort) return LongWord::merge(*this, symbols, out);
    count = symbols.size();
    std::copy(symbols.begin(), symbols.end(), ids);
  }
  if (count == 0) return;

  const Rule* rules[kShort];  // of symbol i with its right neighbour
  for (std::size_t i = 0; i + 1 < count; ++i) rules[i] = &rule(ids[i], ids[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i) {
      if (rules[i]->rank < rules[best]->rank) best = i;
    }
    if (rules[best]->rank == kNoRank) break;
    ids[best] = rules[best]->merged;
    --count;
    std::memmove(ids + best + 1, ids + best + 2, (count - best - 1) * sizeof *ids);
    if (best + 1 < count) {
      std::memmove(rules + best + 1, rules + best + 2, (count - best - 2) * sizeof *rules);
      rules[best] = &rule(ids[best], ids[best + 1]);
    }
    if (best > 0) rules[best - 1] = &rule(ids[best - 1], ids[best]);
  }
  out.insert(out.end(), ids, ids + count);
}

}  // namespace metal_candle
