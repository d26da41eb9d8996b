// The way back from pieces to text, one piece at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace metal_candle {

/// Immutable; any thread may call it.
class PieceDecoder {
 public:
  virtual ~PieceDecoder() = default;
  /// Appends the bytes of a piece; a character may be spread over several pieces.
  /// `first`: nothing has been decoded before it.
  virtual void append(std::string_view piece, bool first, std::string& out) const = 0;
};

/// Pieces in the byte-level alphabet.
std::unique_ptr<PieceDecoder> make_byte_level_decoder();

}  // namespace metal_candle
