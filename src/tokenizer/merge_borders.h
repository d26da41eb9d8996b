// The pairs of neighbouring symbols that some BPE merge joins. Between any other two a text can be cut, and
// its parts merged alone, with the same result.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace metal_candle {

/// Immutable once filled; then any thread may read it. Symbols are bytes of a byte-level vocabulary, else
/// code points.
class MergeBorders {
 public:
  /// The merge of two pieces of the vocabulary: where they meet.
  void add(std::string_view left, std::string_view right, bool byte_level);

  /// May say yes for a pair that no merge joins (a hash of 16 bits, exact for bytes); never no for one that
  /// is.
  bool joined(char32_t a, char32_t b) const noexcept {
    const std::uint32_t bit = index(a, b);
    return (bits_[bit / 64] >> bit % 64 & 1) != 0;
  }

 private:
  static std::uint32_t index(char32_t a, char32_t b) noexcept {
    return ((a << 8 ^ b) + (a >> 8) * 0x9E37u + (b >> 8) * 0x85EBu) & 0xFFFF;
  }

  std::vector<std::uint64_t> bits_ = std::vector<std::uint64_t>(0x10000 / 64);
};

}  // namespace metal_candle
