#include "tokenizer/piece_decoder.h"

#include "tokenizer/byte_level.h"

namespace metal_candle {
namespace {

class ByteLevelDecoder final : public PieceDecoder {
 public:
  void append(std::string_view piece, bool, std::string& out) const override {
    append_byte_level_bytes(piece, out);
  }
};

}  // namespace

std::unique_ptr<PieceDecoder> make_byte_level_decoder() { return std::make_unique<ByteLevelDecoder>(); }

}  // namespace metal_candle
