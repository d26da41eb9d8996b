// How packed tiles and activation rows lie in memory: sizes and offsets only (docs/kernels.md has the
// pictures). Shared by packing and by the kernels of every target, so nothing here may emit code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/simd/quant_formats.h"
#include "kernels/simd/weight_format.h"

namespace metal_candle::simd {

inline constexpr int kTile = 32;  ///< outputs of a tile; kTileRows of linear.h

/// A float of 2^23 to 2^24 counts in ones: integer sums that begin at the bits of kMagic are kMagic + sum as
/// floats, without a conversion. No sum of 32 products leaves its binade.
inline constexpr float kMagic = 0x1.8p23f;
inline constexpr int kMagicBits = 0x4b400000;
static_assert(32 * 127 * (255 + 128) < 1 << 22);

/// Offset of the codes that a tile is widened to, where an instruction takes unsigned ones of any size.
inline constexpr int kWideOffset = 128;

/// 32 activations. Sums are of the integer codes; negated because they cancel a code offset. What the
/// products of widened tiles begin at lies ready: from memory to all lanes costs nothing, from a register a
/// shuffle.
struct ActBlock {
  std::int8_t q[32];
  float scale;                 ///< value = scale · q
  float sum;                   ///< scale · Σq
  std::int32_t start;          ///< kMagicBits − kWideOffset · Σq
  std::int16_t minus_half[2];  ///< −Σq of elements 0-15 and 16-31
};
static_assert(sizeof(ActBlock) == 48);

/// A quantized tile is a list of super-blocks (32 or 256 inputs): [f16 d × 32] [f16 dmin × 32]?, then per 32
/// inputs: two bytes an output (K formats only), then the code planes. The two bytes, 32 of each: scale and
/// min, or the scales of the two halves; Q2_K's hold scale and min as nibbles.
///
/// Inputs go in quads of 4: one 32-bit lane holds 4 consecutive inputs of one output, 32 outputs make 128
/// bytes. Step s of a block takes quad(s); with one scale per 32, steps 2i and 2i+1 are quads i and i+4,
/// which is how Q4 stores its nibbles. Planes, each 128 bytes wide unless said:
///   8 bits: 8 planes, one a step.   4 bits: 4 planes, step 2i in the low nibbles, 2i+1 in the high.
///   2 bits: 2 planes, steps 4i..4i+3 from the low bits up.   1 bit: 16 bytes a step, bit = lane · 4 + input.
///   5 = 4 + 1, 6 = 4 + 2, 3 = 2 + 1 (low bits first).
///
/// MLX's affine formats: super-blocks of one group, [scale × 32] [bias × 32] in their own type.
template <class Traits>
struct TileLayout : Traits {
  using Traits::kBits;
  static constexpr int kHigh = kBits == 5 || kBits == 6 ? 512 : 256;  ///< where the second planes start
  static constexpr int kPlaneBytes = 128 * kBits;
  static constexpr int kHeaderBytes = kTile * Traits::kScaleBytes * (Traits::kHasMin ? 2 : 1);
  static constexpr int kSubScaleBytes = Traits::kSuper ? 2 * kTile : 0;
  static constexpr int kSubBytes = kSubScaleBytes + kPlaneBytes;

  static constexpr int quad(int step) { return Traits::kGroups == 2 ? step : (step & 1) * 4 + (step >> 1); }
  /// Blocks of 32 inputs in a super-block.
  static constexpr int sub_blocks(const WeightFormat& format) {
    return Traits::kSubBlocks ? Traits::kSubBlocks : format.group / 32;
  }
  static constexpr int super_bytes(const WeightFormat& format) {
    return kHeaderBytes + sub_blocks(format) * kSubBytes;
  }
};

template <int bits, DType scales>
struct AffineTraits {
  static constexpr int kBits = bits, kOffset = 0, kGroups = 1;
  static constexpr ScaleKind kKind = ScaleKind::affine;
  static constexpr DType kScales = scales;
  static constexpr int kScaleBytes = scales == DType::f32 ? 4 : 2;
  static constexpr bool kSuper = false, kHasMin = true;
  static constexpr int kSubBlocks = 0;  ///< as the format's group says
};

/// Calls f(traits) for a quantized format; returns false for any other.
template <class F>
static bool visit_format(const WeightFormat& format, F&& f) {
  if (format.bits == 0) return visit_quantized(format.type, f);
  const bool wide = format.bits == 8;
  if (format.scales == DType::f32) {
    wide ? f(AffineTraits<8, DType::f32>{}) : f(AffineTraits<4, DType::f32>{});
  } else if (format.scales == DType::f16) {
    wide ? f(AffineTraits<8, DType::f16>{}) : f(AffineTraits<4, DType::f16>{});
  } else {
    wide ? f(AffineTraits<8, DType::bf16>{}) : f(AffineTraits<4, DType::bf16>{});
  }
  return true;
}

/// What long prompts multiply: codes widened to bytes and scales to f32, per 32 inputs:
/// [f32 scale × 32 × groups] [f32 min × 32 × groups]? [8 byte planes, in steps as above].
template <int groups, bool has_min>
struct ExpandedLayout {
  static constexpr int kGroups = groups;
  static constexpr bool kHasMin = has_min;
  static constexpr int kScaleBytes = 4 * kTile * groups;
  static constexpr int kHeaderBytes = kScaleBytes * (has_min ? 2 : 1);
  static constexpr int kBlockBytes = kHeaderBytes + 1024;
};
inline constexpr int kMaxExpandedBlockBytes = ExpandedLayout<2, true>::kBlockBytes;

/// Dense tiles: f32 and f16 as [k][32]; bf16 as [ceil(k / 2)][32][2], an odd last input padded with zero.
/// Dense activation rows: f32[k], then bf16[k rounded up to even] on targets that multiply bf16.
inline constexpr std::size_t dense_tile_bytes(DType type, std::size_t k) {
  return type == DType::f32 ? 128 * k : type == DType::f16 ? 64 * k : 128 * ((k + 1) / 2);
}

}  // namespace metal_candle::simd
