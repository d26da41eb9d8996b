#include "tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

constexpr std::size_t kShort = 48;  // symbols up to which the quadratic loop wins
constexpr std::string_view kWordStart = "▁";
constexpr char32_t kWordStartCode = U'▁';
constexpr std::size_t kWord = 24;         // bytes up to which a piece is not worth cutting
constexpr std::size_t kStackBytes = 128;  // pre-tokens up to this size are spelled on the stack

std::uint64_t pair_of(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

std::size_t slot_of(std::uint64_t pair, std::size_t mask) {
  return static_cast<std::size_t>((pair ^ pair >> 29) * 0x9E3779B97F4A7C15u >> 32) & mask;
}

}  // namespace

inline const Bpe::Rule& Bpe::rule(TokenId left, TokenId right) const noexcept {
  const std::uint64_t pair = pair_of(left, right);
  const std::size_t mask = rules_.size() - 1;
  std::size_t at = slot_of(pair, mask);
  while (rules_[at].rank != kNoRank && rules_[at].pair != pair) at = (at + 1) & mask;
  return rules_[at];
}

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
  rules_.resize(std::bit_ceil(2 * merges.size() + 1));
  const std::size_t mask = rules_.size() - 1;
  for (const BpeMerge& merge : merges) {
    const std::uint64_t pair = pair_of(merge.left, merge.right);
    std::size_t at = slot_of(pair, mask);
    while (rules_[at].rank != kNoRank && rules_[at].pair != pair) at = (at + 1) & mask;
    rules_[at] = {pair, merge.rank, merge.merged};  // a repeated rule: the last counts
  }
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
  if (may_cut(merges)) {
    borders_.emplace();
    for (const BpeMerge& merge : merges)
      borders_->add(vocabulary_->piece(merge.left), vocabulary_->piece(merge.right), options_.byte_level);
  }
  reachable_ = std::make_unique<std::atomic<std::uint8_t>[]>(vocabulary_->size());
}

bool Bpe::may_cut(std::span<const BpeMerge> merges) const {
  if (options_.ignore_merges || !options_.continuing_prefix.empty() || !options_.end_suffix.empty())
    return false;
  if (options_.byte_level)
    return std::all_of(byte_ids_.begin(), byte_ids_.end(), [](TokenId id) { return id >= 0; });
  if (!options_.byte_fallback) return true;
  const auto stands_for_byte = [&](TokenId id) {  // its text is not the text that it came from
    return std::find(fallback_ids_.begin(), fallback_ids_.end(), id) != fallback_ids_.end();
  };
  return std::none_of(merges.begin(), merges.end(),
                      [&](const BpeMerge& m) { return stands_for_byte(m.left) || stands_for_byte(m.right); });
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
  if (!borders_ || piece.size() <= kWord) return encode_word(piece, out);
  std::size_t begin = 0, at = 0;
  char32_t before = 0;
  bool known_before = false;
  while (at < piece.size()) {
    const Utf8Char c =
        options_.byte_level ? Utf8Char{static_cast<unsigned char>(piece[at]), 1, true} : read_utf8(piece, at);
    // Unknown characters may vanish or become one token with others: no cut beside them.
    const bool known = options_.byte_level || (c.code < 0x80 && ascii_ids_[c.code] >= 0) ||
                       (c.code == kWordStartCode && word_start_id_ >= 0);
    if (known && known_before && !borders_->joined(before, c.code)) {
      encode_word(piece.substr(begin, at - begin), out);
      begin = at;
    }
    before = c.code;
    known_before = known;
    at += c.length;
  }
  if (begin < at) encode_word(piece.substr(begin), out);
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

std::size_t Bpe::known_symbols(std::string_view piece, TokenId* ids) const {
  if (!options_.continuing_prefix.empty() || !options_.end_suffix.empty()) return 0;
  if (options_.byte_level) {
    for (std::size_t i = 0; i < piece.size(); ++i) {
      ids[i] = byte_ids_[static_cast<unsigned char>(piece[i])];
      if (ids[i] < 0) return 0;
    }
    return piece.size();
  }
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

/// Merging over a linked list, for long words. A tree of minima over the ranks, 16 to a node, finds the
/// lowest and leftmost: a merge changes three neighbours, which mostly share their nodes.
struct Bpe::LongWord {
  static constexpr std::uint32_t kEnd = ~std::uint32_t{0};
  static constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();  // ranks are below
  static constexpr std::size_t kFan = 16;
  struct Node {
    TokenId id;
    std::uint32_t previous, next;
    const Rule* rule;  // with the next
  };

  const Bpe& bpe;
  std::vector<Node> nodes;
  std::vector<std::int32_t> minima;  // the ranks, then each level above, in whole groups of kFan
  std::vector<std::size_t> levels;   // where each begins

  LongWord(const Bpe& merges, std::span<const TokenId> symbols) : bpe(merges), nodes(symbols.size()) {
    std::size_t total = 0;
    for (std::size_t n = symbols.size();; n = (n + kFan - 1) / kFan) {
      levels.push_back(total);
      total += (n + kFan - 1) / kFan * kFan;
      if (n <= kFan) break;
    }
    minima.assign(total, kNever);
    const auto count = static_cast<std::uint32_t>(symbols.size());
    for (std::uint32_t i = 0; i < count; ++i)
      nodes[i] = {symbols[i], i == 0 ? kEnd : i - 1, i + 1 == count ? kEnd : i + 1, nullptr};
    for (std::uint32_t i = 0; i < count; ++i) look_up(i);
    for (std::size_t level = 0; level + 1 < levels.size(); ++level)
      for (std::size_t i = levels[level]; i < levels[level + 1]; i += kFan)
        minima[levels[level + 1] + (i - levels[level]) / kFan] = least(i);
  }

  void look_up(std::uint32_t i) {
    nodes[i].rule = nodes[i].next == kEnd ? nullptr : &bpe.rule(nodes[i].id, nodes[nodes[i].next].id);
    minima[i] = nodes[i].rule && nodes[i].rule->rank != kNoRank
                    ? static_cast<std::int32_t>(nodes[i].rule->rank)
                    : kNever;
  }

  std::int32_t least(std::size_t group) const {
    std::int32_t out = minima[group];
    for (std::size_t i = 1; i < kFan; ++i) out = std::min(out, minima[group + i]);
    return out;
  }

  /// The rank at `i` has changed.
  void update(std::size_t i) {
    for (std::size_t level = 0; level + 1 < levels.size(); ++level) {
      i /= kFan;
      std::int32_t& above = minima[levels[level + 1] + i];
      const std::int32_t now = least(levels[level] + i * kFan);
      if (above == now) return;
      above = now;
    }
  }

  /// The leftmost of the lowest ranks; kEnd if nothing can be merged.
  std::uint32_t lowest() const {
    std::size_t group = 0;
    for (std::size_t level = levels.size(); level-- > 0;) {
      const std::int32_t* const ranks = minima.data() + levels[level] + group * kFan;
      const std::int32_t low = least(levels[level] + group * kFan);
      if (low == kNever) return kEnd;
      group = group * kFan + static_cast<std::size_t>(std::find(ranks, ranks + kFan, low) - ranks);
    }
    return static_cast<std::uint32_t>(group);
  }

  void merge(std::vector<TokenId>& out) {
    for (std::uint32_t at; (at = lowest()) != kEnd;) {
      Node& node = nodes[at];
      const std::uint32_t gone = node.next, previous = node.previous;
      node.id = node.rule->merged;
      node.next = nodes[gone].next;
      if (node.next != kEnd) nodes[node.next].previous = at;
      minima[gone] = kNever;
      look_up(at);
      if (previous != kEnd) look_up(previous);
      if (gone / kFan != at / kFan) update(gone);
      if (previous != kEnd && previous / kFan != at / kFan) update(previous);
      update(at);
    }
    for (std::uint32_t i = 0; i != kEnd; i = nodes[i].next) out.push_back(nodes[i].id);
  }
};

void Bpe::merge(std::string_view piece, std::vector<TokenId>& out) const {
  TokenId few[kShort];
  std::vector<TokenId> many;
  TokenId* ids = few;
  if (piece.size() > kShort) {
    many.resize(piece.size());
    ids = many.data();
  }
  std::size_t count = known_symbols(piece, ids);
  if (count == 0) {
    many.clear();
    if (options_.byte_level) {
      std::string spelled;
      append_byte_level(piece, spelled);
      character_symbols(spelled, many);
    } else {
      character_symbols(piece, many);
    }
    ids = many.data();
    count = many.size();
  }
  if (count > kShort) return LongWord(*this, {ids, count}).merge(out);
  if (count == 0) return;

  std::uint32_t ranks[kShort];  // of symbol i with its right neighbour
  TokenId merged[kShort];
  const auto look_up = [&](std::size_t i) {
    // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): known_symbols has written the first `count` of them
    const Rule& r = rule(ids[i], ids[i + 1]);
    ranks[i] = r.rank;
    merged[i] = r.merged;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    std::size_t best = 0;
    std::uint32_t lowest = ranks[0];
    for (std::size_t i = 1; i + 1 < count; ++i) {
      best = ranks[i] < lowest ? i : best;
      lowest = std::min(lowest, ranks[i]);
    }
    if (lowest == kNoRank) break;
    ids[best] = merged[best];
    --count;
    for (std::size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      ranks[i - 1] = ranks[i];
      merged[i - 1] = merged[i];
    }
    if (best + 1 < count) look_up(best);
    if (best > 0) look_up(best - 1);
  }
  out.insert(out.end(), ids, ids + count);
}

}  // namespace metal_candle
