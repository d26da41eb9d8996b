#include "tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace

std::uint64_t hash_bytes(std::string_view bytes) noexcept {
  constexpr std::uint64_t kOdd = 0x9E3779B97F4A7C15u, kOther = 0xC2B2AE3D27D4EB4Fu;
  std::uint64_t hash = bytes.size() * kOdd;
  const char* p = bytes.data();
  std::size_t left = bytes.size();
  for (; left > 8; p += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, p, 8);
    hash = fold(hash ^ word, kOther);
  }
  std::uint64_t word = 0;
  if (left >= 4) {  // two overlapping halves
    std::uint32_t head, tail;
    std::memcpy(&head, p, 4);
    std::memcpy(&tail, p + left - 4, 4);
    word = static_cast<std::uint64_t>(head) << 32 | tail;
  } else if (left > 0) {
    const auto byte = [&](std::size_t i) {
      return static_cast<std::uint64_t>(static_cast<unsigned char>(p[i]));
    };
    word = byte(0) << 16 | byte(left / 2) << 8 | byte(left - 1);
  }
  return fold(hash ^ word, kOdd);
}

Vocabulary::Vocabulary(std::span<const std::string_view> pieces) {
  std::size_t bytes = 0;
  for (const std::string_view piece : pieces) {
    bytes += piece.size();
    longest_ = std::max(longest_, piece.size());
  }
  if (pieces.size() >= std::size_t{1} << 30 || bytes > UINT32_MAX) {
    throw Error(ErrorCode::malformed_file, "tokenizer: the vocabulary is larger than 4 GiB or 2^30 tokens");
  }
  arena_.reserve(bytes);
  ends_.reserve(pieces.size() + 1);
  ends_.push_back(0);
  slots_.assign(std::bit_ceil(pieces.size() + pieces.size() / 2 + 1), Slot{0, -1});
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    arena_.append(pieces[i]);
    ends_.push_back(static_cast<std::uint32_t>(arena_.size()));
    if (pieces[i].empty()) continue;  // a gap between ids
    const std::uint64_t hash = hash_bytes(pieces[i]);
    const auto tag = static_cast<std::uint32_t>(hash >> 32);
    std::size_t at = hash & mask;
    while (slots_[at].id >= 0 && !(slots_[at].tag == tag && piece(slots_[at].id) == pieces[i])) {
      at = (at + 1) & mask;
    }
    slots_[at] = {tag, static_cast<TokenId>(i)};
  }
}

TokenId Vocabulary::find(std::string_view text) const noexcept {
  if (text.size() > longest_ || slots_.empty()) return -1;
  const std::uint64_t hash = hash_bytes(text);
  const auto tag = static_cast<std::uint32_t>(hash >> 32);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = hash & mask; slots_[at].id >= 0; at = (at + 1) & mask) {
    if (slots_[at].tag == tag && piece(slots_[at].id) == text) return slots_[at].id;
  }
  return -1;
}

}  // namespace metal_candle
