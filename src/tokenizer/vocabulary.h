// Pieces and their ids: one arena of text and one flat hash table. No rule of how text is cut.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/tokenizer.h"

namespace metal_candle {

/// Owns a copy of its pieces. Immutable after construction; safe to share between threads.
/// An empty piece is a gap between ids: find() never gives it. Where one text has several ids, find() gives
/// the highest, as a JSON object with repeated keys does.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Piece i gets id i. Throws Error(malformed_file) if the text exceeds 4 GiB or 2^30 pieces.
  explicit Vocabulary(std::span<const std::string_view> pieces);

  std::size_t size() const noexcept { return ends_.empty() ? 0 : ends_.size() - 1; }
  /// Text of an id; empty if out of range.
  std::string_view piece(TokenId id) const noexcept {
    if (id < 0 || static_cast<std::size_t>(id) >= size()) return {};
    return std::string_view(arena_).substr(ends_[id], ends_[id + 1] - ends_[id]);
  }
  /// Id of a text, or -1.
  TokenId find(std::string_view text) const noexcept;
  /// Bytes of the longest piece.
  std::size_t longest() const noexcept { return longest_; }

 private:
  struct Slot {
    std::uint32_t tag;  // upper half of the hash
    TokenId id;         // -1: empty
  };
  std::string arena_;
  std::vector<std::uint32_t> ends_;  // ends_[i]..ends_[i + 1]: piece i
  std::vector<Slot> slots_;          // a power of two, at most two thirds full
  std::size_t longest_ = 0;
};

/// A fast hash of bytes for tables in memory (not stable across versions, not against attackers).
std::uint64_t hash_bytes(std::string_view bytes) noexcept;

}  // namespace metal_candle
