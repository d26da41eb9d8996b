// What GGUF's block formats are (ggml-common.h's block structs, in our words): codes and scales of 32
// elements at a time. The one definition that dequantization and packing share. Not the packed layout
// (linear_layout.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/dtype.h"
#include "kernels/simd/half.h"

namespace metal_candle::simd {

/// How a format scales its codes. value = scale · (code − offset) + min, per group of 16 or 32 elements.
enum class ScaleKind {
  half,        ///< f16 scale per 32
  half_min,    ///< f16 scale and f16 min per 32
  k_min,       ///< per 256: f16 d and dmin; per 32: 6-bit s and m; scale = d·s, min = −dmin·m
  k_signed16,  ///< per 256: f16 d; per 16: signed s; scale = d·s
  affine,      ///< MLX: scale and min of f32, f16 or bf16 per 32, 64 or 128
  k_min16,     ///< per 256: f16 d and dmin; per 16: 4-bit s and m; scale = d·s, min = −dmin·m
};

template <DType type>
struct QuantTraits;
template <DType type, int bits, int code_offset, ScaleKind kind>
struct QuantTraitsOf {
  static constexpr DType kType = type;
  static constexpr int kBits = bits;           ///< of a code
  static constexpr int kOffset = code_offset;  ///< subtracted from the unsigned code
  static constexpr ScaleKind kKind = kind;
  static constexpr DType kScales = DType::f16;  ///< type of the floats among the scales
  static constexpr int kScaleBytes = 2;
  static constexpr bool kSuper = kind != ScaleKind::half && kind != ScaleKind::half_min;
  static constexpr int kSubBlocks = kSuper ? 8 : 1;  ///< of 32 elements in a file block
  static constexpr bool kHasMin =
      kind == ScaleKind::half_min || kind == ScaleKind::k_min || kind == ScaleKind::k_min16;
  static constexpr int kGroups =
      kind == ScaleKind::k_signed16 || kind == ScaleKind::k_min16 ? 2 : 1;  ///< in 32
};
template <>
struct QuantTraits<DType::q4_0> : QuantTraitsOf<DType::q4_0, 4, 8, ScaleKind::half> {};
template <>
struct QuantTraits<DType::q4_1> : QuantTraitsOf<DType::q4_1, 4, 0, ScaleKind::half_min> {};
template <>
struct QuantTraits<DType::q5_0> : QuantTraitsOf<DType::q5_0, 5, 16, ScaleKind::half> {};
template <>
struct QuantTraits<DType::q5_1> : QuantTraitsOf<DType::q5_1, 5, 0, ScaleKind::half_min> {};
template <>
struct QuantTraits<DType::q8_0> : QuantTraitsOf<DType::q8_0, 8, 128, ScaleKind::half> {};
template <>
struct QuantTraits<DType::q2_k> : QuantTraitsOf<DType::q2_k, 2, 0, ScaleKind::k_min16> {};
template <>
struct QuantTraits<DType::q3_k> : QuantTraitsOf<DType::q3_k, 3, 4, ScaleKind::k_signed16> {};
template <>
struct QuantTraits<DType::q4_k> : QuantTraitsOf<DType::q4_k, 4, 0, ScaleKind::k_min> {};
template <>
struct QuantTraits<DType::q5_k> : QuantTraitsOf<DType::q5_k, 5, 0, ScaleKind::k_min> {};
template <>
struct QuantTraits<DType::q6_k> : QuantTraitsOf<DType::q6_k, 6, 32, ScaleKind::k_signed16> {};

/// Calls f(QuantTraits<type>{}) for a quantized type; returns false for any other.
template <class F>
static bool visit_quantized(DType type, F&& f) {
  switch (type) {
    case DType::q4_0: f(QuantTraits<DType::q4_0>{}); return true;
    case DType::q4_1: f(QuantTraits<DType::q4_1>{}); return true;
    case DType::q5_0: f(QuantTraits<DType::q5_0>{}); return true;
    case DType::q5_1: f(QuantTraits<DType::q5_1>{}); return true;
    case DType::q8_0: f(QuantTraits<DType::q8_0>{}); return true;
    case DType::q2_k: f(QuantTraits<DType::q2_k>{}); return true;
    case DType::q3_k: f(QuantTraits<DType::q3_k>{}); return true;
    case DType::q4_k: f(QuantTraits<DType::q4_k>{}); return true;
    case DType::q5_k: f(QuantTraits<DType::q5_k>{}); return true;
    case DType::q6_k: f(QuantTraits<DType::q6_k>{}); return true;
    default: return false;
  }
}

/// The stored scales of 32 elements; which fields count depends on ScaleKind. `s` is signed for k_signed16.
struct RawScales {
  std::uint16_t d = 0;
  std::uint16_t dmin = 0;
  std::uint8_t s[2] = {0, 0};
  std::uint8_t m[2] = {0, 0};
};

struct Affine {
  float scale;
  float min;
};

/// Scale and min of one group, in the order of operations of the format's definition.
template <DType type>
Affine group_affine(const RawScales& raw, int group) noexcept {
  constexpr ScaleKind kind = QuantTraits<type>::kKind;
  const float d = f16_to_float(raw.d);
  if constexpr (kind == ScaleKind::half) return {d, 0.0f};
  if constexpr (kind == ScaleKind::half_min) return {d, f16_to_float(raw.dmin)};
  if constexpr (kind == ScaleKind::k_signed16) {
    return {d * static_cast<float>(static_cast<std::int8_t>(raw.s[group])), 0.0f};
  }
  return {d * static_cast<float>(raw.s[group]), -(f16_to_float(raw.dmin) * static_cast<float>(raw.m[group]))};
}

namespace formats {

static inline std::uint16_t load_u16(const std::uint8_t* p) noexcept {
  std::uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

static inline std::uint32_t load_u32(const std::uint8_t* p) noexcept {
  std::uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// Bits [shift, shift + bits) of each of 32 bytes, moved up by `up` and added to codes. Eight bytes at a
/// time.
template <int bits, int up = 0>
static inline void add_field(const std::uint8_t* p, int shift, std::uint8_t* codes) noexcept {
  constexpr std::uint64_t mask = 0x0101010101010101u * ((1u << bits) - 1);
  for (int i = 0; i < 32; i += 8) {
    std::uint64_t word, code;
    std::memcpy(&word, p + i, 8);
    std::memcpy(&code, codes + i, 8);
    code |= (word >> shift & mask) << up;
    std::memcpy(codes + i, &code, 8);
  }
}

/// 16 bytes of nibbles: the low ones are elements 0-15, the high ones 16-31.
static inline void split_nibbles(const std::uint8_t* p, std::uint8_t* codes) noexcept {
  for (int i = 0; i < 16; ++i) {
    codes[i] = p[i] & 15;
    codes[i + 16] = p[i] >> 4;
  }
}

/// The 6-bit scale and min number `j` of 8, spread over 12 bytes (Q4_K, Q5_K).
static inline void scale_min_k4(const std::uint8_t* p, int j, RawScales& raw) noexcept {
  if (j < 4) {
    raw.s[0] = p[j] & 63;
    raw.m[0] = p[j + 4] & 63;
  } else {
    raw.s[0] = static_cast<std::uint8_t>((p[j + 4] & 15) | (p[j - 4] >> 6) << 4);
    raw.m[0] = static_cast<std::uint8_t>((p[j + 4] >> 4) | (p[j] >> 6) << 4);
  }
}

/// The 6-bit scale number `i` of 16, spread over 12 bytes (Q3_K), signed around 32.
static inline std::uint8_t scale_k3(const std::uint8_t* p, int i) noexcept {
  const int low = i < 8 ? p[i] & 15 : p[i - 8] >> 4;
  const int high = (p[8 + i % 4] >> (2 * (i / 4))) & 3;
  return static_cast<std::uint8_t>((low | high << 4) - 32);
}

}  // namespace formats

/// Codes 0 .. 2^bits−1 and scales of the 32 elements `sub` of the file block at `p`. `codes` holds zeros
/// before.
template <DType type>
void read_block(const std::uint8_t* p, int sub, std::uint8_t* codes, RawScales& raw) noexcept {
  using namespace formats;
  if constexpr (type == DType::q4_0 || type == DType::q4_1) {
    constexpr int header = type == DType::q4_0 ? 2 : 4;
    raw.d = load_u16(p);
    if constexpr (type == DType::q4_1) raw.dmin = load_u16(p + 2);
    split_nibbles(p + header, codes);
  } else if constexpr (type == DType::q5_0 || type == DType::q5_1) {
    constexpr int header = type == DType::q5_0 ? 2 : 4;
    raw.d = load_u16(p);
    if constexpr (type == DType::q5_1) raw.dmin = load_u16(p + 2);
    split_nibbles(p + header + 4, codes);
    const std::uint32_t high = load_u32(p + header);
    for (int i = 0; i < 32; i += 4) {
      const std::uint32_t bits = ((high >> i & 15u) * 0x00204081u & 0x01010101u) << 4;  // one to each byte
      const std::uint32_t word = load_u32(codes + i) | bits;
      std::memcpy(codes + i, &word, 4);
    }
  } else if constexpr (type == DType::q8_0) {
    raw.d = load_u16(p);
    for (int i = 0; i < 32; ++i) codes[i] = p[2 + i] ^ 0x80;
  } else if constexpr (type == DType::q2_k) {  // scales[16] qs[64] d dmin
    raw.d = load_u16(p + 80);
    raw.dmin = load_u16(p + 82);
    for (int g = 0; g < 2; ++g) {
      raw.s[g] = p[2 * sub + g] & 15;
      raw.m[g] = p[2 * sub + g] >> 4;
    }
    add_field<2>(p + 16 + 32 * (sub / 4), 2 * (sub % 4), codes);
  } else if constexpr (type == DType::q3_k) {  // hmask[32] qs[64] scales[12] d
    raw.d = load_u16(p + 108);
    for (int g = 0; g < 2; ++g) raw.s[g] = scale_k3(p + 96, 2 * sub + g);
    add_field<2>(p + 32 + 32 * (sub / 4), 2 * (sub % 4), codes);
    add_field<1, 2>(p, sub, codes);
  } else if constexpr (type == DType::q4_k || type == DType::q5_k) {  // d dmin scales[12] (qh[32]) qs[128]
    raw.d = load_u16(p);
    raw.dmin = load_u16(p + 2);
    scale_min_k4(p + 4, sub, raw);
    add_field<4>(p + (type == DType::q4_k ? 16 : 48) + 32 * (sub / 2), 4 * (sub % 2), codes);
    if constexpr (type == DType::q5_k) add_field<1, 4>(p + 16, sub, codes);
  } else {  // q6_k: ql[128] qh[64] scales[16] d
    static_assert(type == DType::q6_k);
    raw.d = load_u16(p + 208);
    for (int g = 0; g < 2; ++g) raw.s[g] = p[192 + 2 * sub + g];
    const int quarter = sub % 4;
    add_field<4>(p + 64 * (sub / 4) + 32 * (quarter % 2), 4 * (quarter / 2), codes);
    add_field<2, 4>(p + 128 + 32 * (sub / 4), 2 * quarter, codes);
  }
}

/// The 32 values of codes and scales.
template <DType type>
void block_values(const std::uint8_t* codes, const RawScales& raw, float* out) noexcept {
  using T = QuantTraits<type>;
  for (int g = 0; g < T::kGroups; ++g) {
    const Affine a = group_affine<type>(raw, g);
    for (int i = g * 32 / T::kGroups; i < (g + 1) * 32 / T::kGroups; ++i) {
      const float product = a.scale * static_cast<float>(codes[i] - T::kOffset);
      out[i] = T::kHasMin ? product + a.min : product;
    }
  }
}

}  // namespace metal_candle::simd
