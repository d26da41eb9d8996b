#include "tokenizer/merge_borders.h"

#include "tokenizer/byte_level.h"
#include "tokenizer/unicode.h"

namespace metal_candle {
namespace {

char32_t symbol(char32_t code, bool byte_level) {
  const int byte = byte_level ? byte_of_level_char(code) : -1;
  return byte >= 0 ? static_cast<char32_t>(byte) : code;
}

}  // namespace

void MergeBorders::add(std::string_view left, std::string_view right, bool byte_level) {
  if (left.empty() || right.empty()) return;
  std::size_t last = left.size() - 1;
  while (last > 0 && (static_cast<unsigned char>(left[last]) & 0xC0) == 0x80) --last;
  const std::uint32_t bit =
      index(symbol(read_utf8(left, last).code, byte_level), symbol(read_utf8(right, 0).code, byte_level));
  bits_[bit / 64] |= std::uint64_t{1} << bit % 64;
}

}  // namespace metal_candle
