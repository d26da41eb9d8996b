// The tile products, once for every instruction set: templates over an Isa (vectors and a dozen operations).
// Included only by linear_<target>.cpp, each compiled with its own -m flags.
//
// Everything has internal linkage and nothing from std:: is called: a shared inline function compiled here
// with wide instructions could be the one the linker keeps for the whole program.
#pragma once

#include "kernels/simd/fetch.h"
#include "kernels/simd/inline.h"
#include "kernels/simd/linear_layout.h"
#include "kernels/simd/linear_targets.h"

namespace metal_candle::simd {
namespace {

using Byte = std::uint8_t;

template <int n>
struct Int {
  static constexpr int value = n;
};
template <int n, int begin = 0, class F>
MC_INLINE void unroll(F&& f) {
  if constexpr (begin < n) {
    f(Int<begin>{});
    unroll<n, begin + 1>(f);
  }
}

/// Sizes of the row groups that kernels are made for, from the largest down; each a full program of its own.
constexpr int next_rows(int rows) { return rows > 4 ? rows == 12 ? 6 : 4 : rows / 2; }

constexpr int smaller(int a, int b) { return a < b ? a : b; }

template <class Isa, int R, int V>
MC_INLINE void clear(typename Isa::F (&sums)[R][V]) {
  MC_UNROLL for (int r = 0; r < R; ++r) { MC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] = Isa::zero_f(); }
}

/// Output `lane` of a tile is the first of the sums.
template <class Isa, int R, int V>
MC_INLINE void begin(const SumStart& start, int lane, const float* out, std::size_t stride,
                     typename Isa::F (&sums)[R][V]) {
  MC_UNROLL for (int v = 0; v < V; ++v) {
    const int at = lane + v * Isa::kLanes;
    const auto bias = start.bias ? Isa::load_f32(start.bias + at) : Isa::zero_f();
    MC_UNROLL for (int r = 0; r < R; ++r) sums[r][v] =
        start.add ? Isa::fma(bias, Isa::set_f(1), Isa::load_f32(out + r * stride + at)) : bias;
  }
}

template <class Isa, int R, int V>
MC_INLINE void store(const typename Isa::F (&sums)[R][V], float* out, std::size_t stride) {
  MC_UNROLL for (int r = 0; r < R; ++r) {
    MC_UNROLL for (int v = 0; v < V; ++v) Isa::store_f32(out + r * stride + v * Isa::kLanes, sums[r][v]);
  }
}

/// Decoding reads each weight once, from memory, faster than the hardware looks ahead: far ahead into L2,
/// which has three times the outstanding misses of L1, and from there into L1 (together +10% over L1 alone on
/// Intel's cores). AMD's do better with one request a line, into L1 (docs/kernels.md).
/// Tiles follow one another, so the end of one fetches the next; past the last, a prefetch is harmless.
constexpr int kAheadInL2 = 6144, kAheadInL1 = 1536, kAheadAtOnce = 4096;
template <int bytes>
MC_INLINE void prefetch(const Byte* p) {
  MC_UNROLL for (int at = 0; at < bytes; at += 64) {
    if (kFetchesAtOnce) {
      __builtin_prefetch(p + kAheadAtOnce + at);
    } else {
      __builtin_prefetch(p + kAheadInL2 + at, 0, 2);
      __builtin_prefetch(p + kAheadInL1 + at);
    }
  }
}

// ---- Weights: where a block's codes and scales come from ----------------------------------------

/// Straight from a packed tile. `lane` is the first output of a vector.
template <class Isa, class Traits>
struct PackedWeights {
  using L = TileLayout<Traits>;
  using F = typename Isa::F;
  using B = typename Isa::B;
  static constexpr int kGroups = L::kGroups, kOffset = L::kOffset, kBits = L::kBits;
  static constexpr bool kHasMin = L::kHasMin, kWide = L::kBits == 8, kFromMemory = true;
  static constexpr bool kShortScales = L::kScales != DType::f32;  ///< times kMagic they are exact
  static constexpr int kSubBytes = L::kSubBytes, kHeaderBytes = L::kHeaderBytes;
  static constexpr int sub_blocks(const WeightFormat& format) { return L::sub_blocks(format); }
  static constexpr int quad(int step) { return L::quad(step); }
  struct Super {
    F d, dmin;
  };

  static MC_INLINE F load_scale(const Byte* p) {
    if constexpr (L::kScales == DType::f32) {
      return Isa::load_f32(p);
    } else if constexpr (L::kScales == DType::bf16) {
      return Isa::load_bf16(p);
    } else {
      return Isa::load_f16(p);
    }
  }
  static MC_INLINE Super super(const Byte* p, int lane) {
    Super s;
    s.d = load_scale(p + L::kScaleBytes * lane);
    if constexpr (kHasMin) s.dmin = load_scale(p + L::kScaleBytes * (kTile + lane));
    return s;
  }
  static MC_INLINE F scale(const Super& s, const Byte* sub, int lane, int group) {
    if constexpr (L::kKind == ScaleKind::k_min) {
      return Isa::mul(s.d, Isa::load_u8(sub + lane));
    } else if constexpr (L::kKind == ScaleKind::k_signed16) {
      return Isa::mul(s.d, Isa::load_i8(sub + kTile * group + lane));
    } else if constexpr (L::kKind == ScaleKind::k_min16) {
      return Isa::mul(s.d, Isa::load_low_nibbles(sub + kTile * group + lane));
    } else {
      return s.d;
    }
  }
  static MC_INLINE F min(const Super& s, const Byte* sub, int lane, int group) {
    if constexpr (L::kKind == ScaleKind::k_min) {
      return Isa::negated(Isa::mul(s.dmin, Isa::load_u8(sub + kTile + lane)));
    } else if constexpr (L::kKind == ScaleKind::k_min16) {
      return Isa::negated(Isa::mul(s.dmin, Isa::load_high_nibbles(sub + kTile * group + lane)));
    } else {
      return s.dmin;
    }
  }
  template <int s>
  static MC_INLINE B codes(const Byte* sub, int lane) {
    const Byte* planes = sub + L::kSubScaleBytes;
    const Byte* at = planes + 4 * lane;
    if constexpr (L::kBits == 8) {
      return Isa::load(at + 128 * s);
    } else if constexpr (L::kBits >= 4) {
      const B low = Isa::template field<4 * (s % 2), 15>(Isa::load(at + 128 * (s / 2)));
      if constexpr (L::kBits == 4) return low;
      if constexpr (L::kBits == 5)
        return Isa::template add_bits<16>(low, planes + L::kHigh + 16 * s + lane / 2);
      const B high = Isa::template field<2 * (s % 4), 3>(Isa::load(at + L::kHigh + 128 * (s / 4)));
      return Isa::or_shifted4(low, high);
    } else {
      const B low = Isa::template field<2 * (s % 4), 3>(Isa::load(at + 128 * (s / 4)));
      if constexpr (L::kBits == 2) return low;
      return Isa::template add_bits<4>(low, planes + L::kHigh + 16 * s + lane / 2);
    }
  }
};

/// From an expanded tile; offset is the code offset of the format it came from.
template <class Isa, int groups, bool has_min, int bits, int offset, bool short_scales>
struct ExpandedWeights {
  using L = ExpandedLayout<groups, has_min>;
  using F = typename Isa::F;
  using B = typename Isa::B;
  static constexpr int kGroups = groups, kOffset = offset, kBits = bits;
  static constexpr bool kHasMin = has_min, kWide = bits == 8, kFromMemory = false;
  static constexpr bool kShortScales = short_scales;
  static constexpr int kSubBytes = L::kBlockBytes, kHeaderBytes = 0;
  static constexpr int sub_blocks(const WeightFormat&) { return 1; }
  static constexpr int quad(int step) { return groups == 1 ? (step & 1) * 4 + (step >> 1) : step; }
  struct Super {};

  static MC_INLINE Super super(const Byte*, int) { return {}; }
  static MC_INLINE F scale(Super, const Byte* p, int lane, int group) {
    return Isa::load_f32(p + 4 * (kTile * group + lane));
  }
  static MC_INLINE F min(Super, const Byte* p, int lane, int group) {
    return Isa::load_f32(p + L::kScaleBytes + 4 * (kTile * group + lane));
  }
  template <int s>
  static MC_INLINE B codes(const Byte* p, int lane) {
    return Isa::load(p + L::kHeaderBytes + 128 * s + 4 * lane);
  }
};

/// What widening adds to the codes of a format: where any unsigned code will do, all that have an offset get
/// the one whose sums activations bring along.
template <class Isa, class Traits>
constexpr int added_to_codes() {
  return Isa::kWideIsUnsigned && Traits::kOffset != 0 ? kWideOffset - Traits::kOffset : 0;
}

/// Bits of a widened code, of which there are as few kinds as the instructions allow.
template <class Isa, class Traits>
constexpr int expanded_bits() {
  if (Isa::kWideIsUnsigned) return 8;
  return Isa::kPairs || Traits::kBits == 8 ? Traits::kBits : 6;
}

template <class Isa, class Traits>
using ExpandedOf = ExpandedWeights<Isa, Traits::kGroups, Traits::kHasMin, expanded_bits<Isa, Traits>(),
                                   Traits::kOffset + added_to_codes<Isa, Traits>(),
                                   PackedWeights<Isa, Traits>::kShortScales>;

// ---- Quantized products -------------------------------------------------------------------------

/// What the products of a block, or of half a block, begin at: base − excess · Σq.
template <class Isa, int base, int excess, int groups, int group>
MC_INLINE typename Isa::I start(const ActBlock& x) {
  if constexpr (excess == 0) {
    return base == 0 ? Isa::zero_i() : Isa::set_i(base);
  } else if constexpr (base == kMagicBits && excess == kWideOffset && groups == 1) {
    return Isa::set_i(x.start);
  } else {
    const int minus_sum = groups == 1 ? x.minus_half[0] + x.minus_half[1] : x.minus_half[group];
    return Isa::set_i(base + minus_sum * excess);
  }
}

/// Adds one block of 32 inputs to the float sums of R rows × V vectors of outputs.
template <class Isa, class W, int R, int V>
MC_INLINE void add_block(const typename W::Super (&super)[V], const Byte* sub, int lane, const Byte* acts,
                         std::size_t stride, typename Isa::F (&sums)[R][V]) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  using B = typename Isa::B;
  constexpr int kSteps = 8 / W::kGroups;
  // What the products count too much per unit of activation; starting at −that·Σq cancels it.
  constexpr int kExcess = W::kOffset - (W::kWide && !Isa::kWideIsUnsigned ? 128 : 0);
  constexpr bool kMagical = Isa::kFusedMultiplyAdd && W::kShortScales;
  constexpr int kBase = kMagical ? kMagicBits : 0;
  // Where products come in 16-bit pairs of at most 2 · (2^bits − 1) · 127, so many steps may be added up in
  // 16 bits.
  constexpr int kPairSteps = !Isa::kPairs || W::kWide ? 1 : smaller(4, 32767 / (254 * ((1 << W::kBits) - 1)));
  const auto row = [&](int r)
                       MC_LAMBDA_INLINE { return reinterpret_cast<const ActBlock*>(acts + r * stride); };
  unroll<W::kGroups>([&](auto group) MC_LAMBDA_INLINE {
    constexpr int g = decltype(group)::value;
    I dots[R][V];
    MC_UNROLL for (int r = 0; r < R; ++r) {
      const I first = start<Isa, kBase, kExcess, W::kGroups, g>(*row(r));
      MC_UNROLL for (int v = 0; v < V; ++v) dots[r][v] = first;
    }
    [[maybe_unused]] I pairs[R][V];
    unroll<kSteps>([&](auto step) MC_LAMBDA_INLINE {
      constexpr int s = g * kSteps + decltype(step)::value;
      constexpr bool first = decltype(step)::value % kPairSteps == 0;
      constexpr bool last = decltype(step)::value % kPairSteps == kPairSteps - 1;
      B w[V];
      MC_UNROLL for (int v = 0; v < V; ++v) w[v] = W::template codes<s>(sub, lane + v * Isa::kLanes);
      MC_UNROLL for (int r = 0; r < R; ++r) {
        const B x = Isa::broadcast4(row(r)->q + 4 * W::quad(s));
        MC_UNROLL for (int v = 0; v < V; ++v) {
          if constexpr (W::kWide) {
            dots[r][v] = Isa::dot_wide(dots[r][v], w[v], x);
          } else if constexpr (kPairSteps == 1) {
            dots[r][v] = Isa::dot(dots[r][v], w[v], x);
          } else {
            const I product = Isa::pairs(w[v], x);
            pairs[r][v] = first ? product : Isa::add_i16(pairs[r][v], product);
            if constexpr (last) dots[r][v] = Isa::add_pairs(dots[r][v], pairs[r][v]);
          }
        }
      }
    });
    MC_UNROLL for (int v = 0; v < V; ++v) {
      const int at = lane + v * Isa::kLanes;
      const F scale = W::scale(super[v], sub, at, g);
      [[maybe_unused]] const F too_much = Isa::mul(scale, Isa::set_f(-kMagic));
      MC_UNROLL for (int r = 0; r < R; ++r) {
        F product;  // the same bits either way: it is rounded once
        if constexpr (kMagical)
          product = Isa::fma(Isa::as_float(dots[r][v]), scale, too_much);
        else
          product = Isa::mul(Isa::to_float(dots[r][v]), scale);
        sums[r][v] = Isa::fma(product, Isa::set_f(row(r)->scale), sums[r][v]);
      }
      if constexpr (W::kHasMin) {
        const F min = W::min(super[v], sub, at, g);
        MC_UNROLL for (int r = 0; r < R; ++r) {
          const ActBlock* x = row(r);
          const float sum_x = W::kGroups == 1 ? x->sum : -(x->scale * static_cast<float>(x->minus_half[g]));
          sums[r][v] = Isa::fma(min, Isa::set_f(sum_x), sums[r][v]);
        }
      }
    }
  });
}

template <class Isa, class W, int R>
void quantized_rows(const WeightFormat& format, std::size_t k, const Byte* tile, const Byte* acts,
                    std::size_t stride, float* out, std::size_t out_stride) {
  constexpr int V = Isa::vectors(R);
  const int sub_blocks = W::sub_blocks(format);
  for (int lane = 0; lane < kTile; lane += V * Isa::kLanes) {
    typename Isa::F sums[R][V];
    clear<Isa>(sums);
    const Byte* p = tile;
    const Byte* x = acts;
    for (std::size_t done = 0; done < k; done += 32 * static_cast<std::size_t>(sub_blocks)) {
      typename W::Super super[V];
      MC_UNROLL for (int v = 0; v < V; ++v) super[v] = W::super(p, lane + v * Isa::kLanes);
      if constexpr (W::kFromMemory) prefetch<W::kHeaderBytes>(p);
      p += W::kHeaderBytes;
      for (int j = 0; j < sub_blocks; ++j, p += W::kSubBytes, x += sizeof(ActBlock)) {
        if constexpr (W::kFromMemory) prefetch<W::kSubBytes>(p);
        add_block<Isa, W, R, V>(super, p, lane, x, stride, sums);
      }
    }
    store<Isa>(sums, out + lane, out_stride);
  }
}

/// Any number of rows, kRows at a time.
template <class Isa, class W, int R = Isa::kRows>
void quantized_product(const WeightFormat& format, std::size_t k, const Byte* tile, const Byte* acts,
                       std::size_t stride, std::size_t rows, float* out, std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * stride, out += R * out_stride) {
    quantized_rows<Isa, W, R>(format, k, tile, acts, stride, out, out_stride);
  }
  if constexpr (R > 1) {
    if (rows > 0)
      quantized_product<Isa, W, next_rows(R)>(format, k, tile, acts, stride, rows, out, out_stride);
  }
}

template <class Isa, class Traits>
void expand(const WeightFormat& format, std::size_t k, const Byte* tile, Byte* out) {
  using W = PackedWeights<Isa, Traits>;
  using E = ExpandedLayout<W::kGroups, W::kHasMin>;
  const int sub_blocks = W::sub_blocks(format);
  for (std::size_t done = 0; done < k; done += 32 * static_cast<std::size_t>(sub_blocks)) {
    const Byte* sub = tile + W::kHeaderBytes;
    for (int j = 0; j < sub_blocks; ++j, sub += W::kSubBytes, out += E::kBlockBytes) {
      prefetch<W::kSubBytes>(sub);
      for (int lane = 0; lane < kTile; lane += Isa::kLanes) {
        const typename W::Super super = W::super(tile, lane);
        unroll<W::kGroups>([&](auto g) MC_LAMBDA_INLINE {
          float* scales = reinterpret_cast<float*>(out) + kTile * g.value + lane;
          Isa::store_f32(scales, W::scale(super, sub, lane, g.value));
          if constexpr (W::kHasMin) {
            Isa::store_f32(scales + kTile * W::kGroups, W::min(super, sub, lane, g.value));
          }
        });
        unroll<8>([&](auto s) MC_LAMBDA_INLINE {
          typename Isa::B codes = W::template codes<decltype(s)::value>(sub, lane);
          if constexpr (constexpr int more = added_to_codes<Isa, Traits>(); more != 0)
            codes = Isa::template add_to_all<more>(codes);
          Isa::store(out + E::kHeaderBytes + 128 * s.value + 4 * lane, codes);
        });
      }
    }
    tile = sub;
  }
}

// ---- Dense products -----------------------------------------------------------------------------

constexpr int kStretch = 8;  ///< inputs that dense_rows() takes in one go

/// What a group of rows asks for while it is multiplied, so that no weight waits for L3: so many lines of the
/// next tile before every stretch.
struct Ahead {
  const Byte* next = nullptr;
  int lines = 0;
};

template <class Isa, DType type, int R>
void dense_rows(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, Ahead ahead,
                float* out, std::size_t out_stride, const SumStart& start) {
  using F = typename Isa::F;
  constexpr int V = Isa::vectors(R), kFours = (R + 3) / 4;
  constexpr int kSize = type == DType::f32 ? 4 : 2, kStep = type == DType::bf16 ? 4 : kSize;
  for (int lane = 0; lane < kTile; lane += V * Isa::kLanes) {
    F sums[R][V];
    begin<Isa>(start, lane, out, out_stride, sums);
    const Byte* weights = tile + kStep * lane;
    // A pointer for four rows, which the compiler must not see through: one for each row leaves no register.
    const Byte* four[kFours];
    MC_UNROLL for (int f = 0; f < kFours; ++f) {
      four[f] = acts + 4 * f * stride;
      asm("" : "+r"(four[f]));
    }
    const auto input = [&](auto index) MC_LAMBDA_INLINE {
      constexpr int i = decltype(index)::value;
      const Byte* p = weights + (type == DType::bf16 ? 64 * (i / 2 * 2) : kSize * kTile * i);
      if constexpr (R <= 2) prefetch<kSize * V * Isa::kLanes>(p);
      F w[V];
      MC_UNROLL for (int v = 0; v < V; ++v) {
        const Byte* at = p + v * kStep * Isa::kLanes;
        if constexpr (type == DType::bf16)
          w[v] = i % 2 == 0 ? Isa::load_bf16_even(at) : Isa::load_bf16_odd(at);
        else
          w[v] = type == DType::f32 ? Isa::load_f32(at) : Isa::load_f16(at);
      }
      MC_UNROLL for (int r = 0; r < R; ++r) {
        const F x = Isa::set_f(reinterpret_cast<const float*>(four[r / 4] + r % 4 * stride)[i]);
        MC_UNROLL for (int v = 0; v < V; ++v) sums[r][v] = Isa::fma(w[v], x, sums[r][v]);
      }
    };
    const auto inputs = [&](auto count) MC_LAMBDA_INLINE {
      constexpr int n = decltype(count)::value;
      unroll<n>(input);
      weights += kSize * kTile * n;
      MC_UNROLL for (int f = 0; f < kFours; ++f) four[f] += sizeof(float) * n;
    };
    for (std::size_t n = k / kStretch; n > 0; --n) {
      for (int l = 0; l < ahead.lines; ++l, ahead.next += 64) __builtin_prefetch(ahead.next, 0, 2);
      inputs(Int<kStretch>{});
    }
    for (std::size_t n = k % kStretch / 2; n > 0; --n) inputs(Int<2>{});
    if (k % 2 > 0) input(Int<0>{});
    store<Isa>(sums, out + lane, out_stride);
  }
}

template <class Isa, DType type, int R = Isa::kDenseRows>
void dense_product(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, std::size_t rows,
                   float* out, std::size_t out_stride, const SumStart& start) {
  Ahead ahead;
  constexpr int kPasses = kTile / (Isa::vectors(R) * Isa::kLanes);  // of a group over the tile
  const std::size_t stretches = k / kStretch * kPasses;
  if (R > 2 && R == Isa::kDenseRows && rows >= 2 * R && stretches > 0) {
    const std::size_t bytes = dense_tile_bytes(type, k), parts = 64 * stretches * (rows / R);
    ahead = {tile + bytes, static_cast<int>((bytes + parts - 1) / parts)};
  }
  for (; rows >= R; rows -= R, acts += R * stride, out += R * out_stride) {
    dense_rows<Isa, type, R>(k, tile, acts, stride, ahead, out, out_stride, start);
    ahead.next += 64 * stretches * ahead.lines;
  }
  if constexpr (R > 1) {
    if (rows > 0) dense_product<Isa, type, next_rows(R)>(k, tile, acts, stride, rows, out, out_stride, start);
  }
}

// ---- The table of a target ----------------------------------------------------------------------

template <class Isa>
void packed_entry(const WeightFormat& format, std::size_t k, const Byte* tile, const Byte* acts,
                  std::size_t stride, std::size_t rows, float* out, std::size_t out_stride) {
  visit_format(format, [&](auto traits) {
    quantized_product<Isa, PackedWeights<Isa, decltype(traits)>>(format, k, tile, acts, stride, rows, out,
                                                                 out_stride);
  });
}

template <class Isa>
void expand_entry(const WeightFormat& format, std::size_t k, const Byte* tile, Byte* out) {
  visit_format(format, [&](auto traits) { expand<Isa, decltype(traits)>(format, k, tile, out); });
}

template <class Isa>
void expanded_entry(const WeightFormat& format, std::size_t k, const Byte* tile, const Byte* acts,
                    std::size_t stride, std::size_t rows, float* out, std::size_t out_stride) {
  visit_format(format, [&](auto traits) {
    quantized_product<Isa, ExpandedOf<Isa, decltype(traits)>>(format, k, tile, acts, stride, rows, out,
                                                              out_stride);
  });
}

template <class Isa>
void dense_entry(const WeightFormat& format, std::size_t k, const Byte* tile, const Byte* acts,
                 std::size_t stride, std::size_t rows, float* out, std::size_t out_stride,
                 const SumStart& start) {
  switch (format.type) {
    case DType::f32:
      return dense_product<Isa, DType::f32>(k, tile, acts, stride, rows, out, out_stride, start);
    case DType::f16:
      return dense_product<Isa, DType::f16>(k, tile, acts, stride, rows, out, out_stride, start);
    default: return dense_product<Isa, DType::bf16>(k, tile, acts, stride, rows, out, out_stride, start);
  }
}

template <class Isa>
constexpr LinearTable kTableOf{packed_entry<Isa>, expand_entry<Isa>, expanded_entry<Isa>, dense_entry<Isa>,
                               Isa::kPackedRows};

}  // namespace
}  // namespace metal_candle::simd
