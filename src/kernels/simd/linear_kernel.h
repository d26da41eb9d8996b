// The tile products, once for every instruction set: templates over an Isa (vectors and a dozen operations).
// Included only by linear_<target>.cpp, each compiled with its own -m flags.
//
// Everything has internal linkage and nothing from std:: is called: a shared inline function compiled here
// with wide instructions could be the one the linker keeps for the whole program.
#pragma once

#include "kernels/simd/linear_layout.h"
#include "kernels/simd/linear_targets.h"

#define MC_INLINE inline __attribute__((always_inline))
#define MC_LAMBDA_INLINE __attribute__((always_inline))

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

// ---- Weights: where a block's codes and scales come from
// -------------------------------------------------------

/// Straight from a packed tile. `lane` is the first output of a vector.
template <class Isa, DType type>
struct PackedWeights {
  using L = TileLayout<type>;
  using F = typename Isa::F;
  using B = typename Isa::B;
  static constexpr int kGroups = L::kGroups, kSubBlocks = L::kSubBlocks;
  static constexpr bool kHasMin = L::kHasMin, kWide = L::kBits == 8;
  static constexpr int kSuperBytes = L::kSuperBytes, kSubBytes = L::kSubBytes, kHeaderBytes = L::kHeaderBytes;
  static constexpr int kOffset = L::kOffset;
  static constexpr int quad(int step) { return L::quad(step); }
  struct Super {
    F d, dmin;
  };

  static MC_INLINE Super super(const Byte* p, int lane) {
    Super s;
    s.d = Isa::load_f16(p + 2 * lane);
    if constexpr (kHasMin) s.dmin = Isa::load_f16(p + 2 * (kTile + lane));
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
template <class Isa, int groups, bool has_min, bool wide, int offset, bool paired>
struct ExpandedWeights {
  using L = ExpandedLayout<groups, has_min>;
  using F = typename Isa::F;
  using B = typename Isa::B;
  static constexpr int kGroups = groups, kSubBlocks = 1;
  static constexpr bool kHasMin = has_min, kWide = wide;
  static constexpr int kSuperBytes = L::kBlockBytes, kSubBytes = L::kBlockBytes, kHeaderBytes = 0;
  static constexpr int kOffset = offset;
  static constexpr int quad(int step) { return paired ? (step & 1) * 4 + (step >> 1) : step; }
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

template <class Isa, DType type>
using ExpandedOf =
    ExpandedWeights<Isa, TileLayout<type>::kGroups, TileLayout<type>::kHasMin, TileLayout<type>::kBits == 8,
                    TileLayout<type>::kOffset, TileLayout<type>::kGroups == 1>;

// ---- Quantized products
// ------------------------------------------------------------------------------------------

/// Adds one block of 32 inputs to the float sums of R rows × V vectors of outputs.
template <class Isa, class W, int R, int V>
MC_INLINE void add_block(const typename W::Super (&super)[V], const Byte* sub, int lane, const Byte* acts,
                         std::size_t stride, typename Isa::F (&sums)[R][V]) {
  using F = typename Isa::F;
  using I = typename Isa::I;
  using B = typename Isa::B;
  constexpr int kSteps = 8 / W::kGroups;
  const auto row = [&](int r) { return reinterpret_cast<const ActBlock*>(acts + r * stride); };
  unroll<W::kGroups>([&](auto g) MC_LAMBDA_INLINE {
    I dots[R][V];
    unroll<R>([&](auto r) MC_LAMBDA_INLINE {
      // An offset code·activation sum starts at −offset·Σq, so that it ends as the sum of (code − offset)·q.
      I start = Isa::zero_i();
      if constexpr (!W::kHasMin && (!W::kWide || Isa::kWideIsUnsigned)) {
        const int minus_sum = W::kGroups == 1 ? row(r.value)->minus_sum : row(r.value)->minus_half[g.value];
        start = Isa::set_i(minus_sum * W::kOffset);
      }
      unroll<V>([&](auto v) MC_LAMBDA_INLINE { dots[r.value][v.value] = start; });
    });
    unroll<kSteps>([&](auto step) MC_LAMBDA_INLINE {
      constexpr int s = decltype(g)::value * kSteps + decltype(step)::value;
      B w[V];
      unroll<V>([&](auto v) MC_LAMBDA_INLINE {
        w[v.value] = W::template codes<s>(sub, lane + decltype(v)::value * Isa::kLanes);
      });
      unroll<R>([&](auto r) MC_LAMBDA_INLINE {
        const B x = Isa::broadcast4(row(r.value)->q + 4 * W::quad(s));
        unroll<V>([&](auto v) MC_LAMBDA_INLINE {
          I& dot = dots[r.value][v.value];
          dot = W::kWide ? Isa::dot_wide(dot, w[v.value], x) : Isa::dot(dot, w[v.value], x);
        });
      });
    });
    unroll<V>([&](auto v) MC_LAMBDA_INLINE {
      const int at = lane + v.value * Isa::kLanes;
      const F scale = W::scale(super[v.value], sub, at, g.value);
      unroll<R>([&](auto r) MC_LAMBDA_INLINE {
        F& sum = sums[r.value][v.value];
        sum = Isa::fma(Isa::mul(Isa::to_float(dots[r.value][v.value]), scale),
                       Isa::set_f(row(r.value)->scale), sum);
      });
      if constexpr (W::kHasMin) {
        const F min = W::min(super[v.value], sub, at, g.value);
        unroll<R>([&](auto r) MC_LAMBDA_INLINE {
          const ActBlock* x = row(r.value);
          const float sum_x =
              W::kGroups == 1 ? x->sum : -(x->scale * static_cast<float>(x->minus_half[g.value]));
          F& sum = sums[r.value][v.value];
          sum = Isa::fma(min, Isa::set_f(sum_x), sum);
        });
      }
    });
  });
}

template <class Isa, class W, int R>
void quantized_rows(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, float* out,
                    std::size_t out_stride) {
  constexpr int V = Isa::vectors(R);
  for (int lane = 0; lane < kTile; lane += V * Isa::kLanes) {
    typename Isa::F sums[R][V];
    unroll<R>([&](auto r) MC_LAMBDA_INLINE {
      unroll<V>([&](auto v) MC_LAMBDA_INLINE { sums[r.value][v.value] = Isa::zero_f(); });
    });
    const Byte* p = tile;
    const Byte* x = acts;
    for (std::size_t i = 0; i < k / (32 * W::kSubBlocks); ++i, p += W::kSuperBytes) {
      typename W::Super super[V];
      unroll<V>([&](auto v) MC_LAMBDA_INLINE {
        super[v.value] = W::super(p, lane + decltype(v)::value * Isa::kLanes);
      });
      const Byte* sub = p + W::kHeaderBytes;
      for (int j = 0; j < W::kSubBlocks; ++j, sub += W::kSubBytes, x += sizeof(ActBlock)) {
        add_block<Isa, W, R, V>(super, sub, lane, x, stride, sums);
      }
    }
    unroll<R>([&](auto r) MC_LAMBDA_INLINE {
      unroll<V>([&](auto v) MC_LAMBDA_INLINE {
        Isa::store_f32(out + r.value * out_stride + lane + v.value * Isa::kLanes, sums[r.value][v.value]);
      });
    });
  }
}

/// Any number of rows, kRows at a time.
template <class Isa, class W, int R = Isa::kRows>
void quantized_product(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride,
                       std::size_t rows, float* out, std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * stride, out += R * out_stride) {
    quantized_rows<Isa, W, R>(k, tile, acts, stride, out, out_stride);
  }
  if constexpr (R > 1) {
    if (rows > 0) quantized_product<Isa, W, R - 1>(k, tile, acts, stride, rows, out, out_stride);
  }
}

template <class Isa, DType type>
void expand(std::size_t k, const Byte* tile, Byte* out) {
  using W = PackedWeights<Isa, type>;
  using E = ExpandedLayout<W::kGroups, W::kHasMin>;
  for (std::size_t i = 0; i < k / (32 * W::kSubBlocks); ++i, tile += W::kSuperBytes) {
    const Byte* sub = tile + W::kHeaderBytes;
    for (int j = 0; j < W::kSubBlocks; ++j, sub += W::kSubBytes, out += E::kBlockBytes) {
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
          Isa::store(out + E::kHeaderBytes + 128 * s.value + 4 * lane,
                     W::template codes<decltype(s)::value>(sub, lane));
        });
      }
    }
  }
}

// ---- Dense products
// ----------------------------------------------------------------------------------------------

template <class Isa, DType type, int R>
void dense_rows(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, float* out,
                std::size_t out_stride) {
  using F = typename Isa::F;
  constexpr int V = Isa::vectors(R);
  for (int lane = 0; lane < kTile; lane += V * Isa::kLanes) {
    F sums[R][V];
    unroll<R>([&](auto r) MC_LAMBDA_INLINE {
      unroll<V>([&](auto v) MC_LAMBDA_INLINE { sums[r.value][v.value] = Isa::zero_f(); });
    });
    const auto add = [&](std::size_t i, const F(&w)[V]) MC_LAMBDA_INLINE {
      unroll<R>([&](auto r) MC_LAMBDA_INLINE {
        const F x = Isa::set_f(reinterpret_cast<const float*>(acts + r.value * stride)[i]);
        unroll<V>([&](auto v) MC_LAMBDA_INLINE {
          sums[r.value][v.value] = Isa::fma(w[v.value], x, sums[r.value][v.value]);
        });
      });
    };
    for (std::size_t i = 0; i < k; ++i) {
      F w[V];
      if constexpr (type == DType::bf16) {
        const Byte* p = tile + 64 * i + 4 * lane;  // i even
        unroll<V>([&](auto v)
                      MC_LAMBDA_INLINE { w[v.value] = Isa::load_bf16_even(p + v.value * 4 * Isa::kLanes); });
        add(i, w);
        if (++i == k) break;
        unroll<V>([&](auto v)
                      MC_LAMBDA_INLINE { w[v.value] = Isa::load_bf16_odd(p + v.value * 4 * Isa::kLanes); });
      } else {
        constexpr int kSize = type == DType::f32 ? 4 : 2;
        const Byte* p = tile + kSize * (kTile * i + lane);
        unroll<V>([&](auto v) MC_LAMBDA_INLINE {
          const Byte* at = p + v.value * kSize * Isa::kLanes;
          w[v.value] = kSize == 4 ? Isa::load_f32(at) : Isa::load_f16(at);
        });
      }
      add(i, w);
    }
    unroll<R>([&](auto r) MC_LAMBDA_INLINE {
      unroll<V>([&](auto v) MC_LAMBDA_INLINE {
        Isa::store_f32(out + r.value * out_stride + lane + v.value * Isa::kLanes, sums[r.value][v.value]);
      });
    });
  }
}

template <class Isa, DType type, int R = Isa::kDenseRows>
void dense_product(std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride, std::size_t rows,
                   float* out, std::size_t out_stride) {
  for (; rows >= R; rows -= R, acts += R * stride, out += R * out_stride) {
    dense_rows<Isa, type, R>(k, tile, acts, stride, out, out_stride);
  }
  if constexpr (R > 1) {
    if (rows > 0) dense_product<Isa, type, R - 1>(k, tile, acts, stride, rows, out, out_stride);
  }
}

// ---- Activations
// -------------------------------------------------------------------------------------------------

/// Plain loops that the compiler vectorizes for each target; the same operations everywhere, so the same
/// bits.
void quantize_activations(const float* x, std::size_t k, Byte* out) {
  constexpr float kRound =
      0x1.8p23f;  // adding it rounds to an integer, to nearest even, in the low mantissa bits
  constexpr std::uint32_t kInfinity = 0x7f800000u;
  for (std::size_t i = 0; i < k; i += 32, x += 32, out += sizeof(ActBlock)) {
    std::uint32_t bits[32];
    __builtin_memcpy(bits, x, sizeof bits);
    std::uint32_t largest = 0;  // as integers, magnitudes order like floats; infinity and NaN above all
    for (int j = 0; j < 32; ++j) {
      const std::uint32_t magnitude = bits[j] & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    ActBlock block;
    float scale = __builtin_bit_cast(float, largest) / 127.0f;
    float inverse = 0.0f;  // below 2⁻¹⁰⁰ a block counts as zeros: its inverse scale could overflow
    if (largest >= kInfinity) {
      scale = __builtin_nanf("");
    } else if (scale > 0x1p-100f) {
      inverse = 127.0f / __builtin_bit_cast(float, largest);
    }
    std::int32_t sums[2] = {0, 0};
    for (int half = 0; half < 2; ++half) {
      std::int32_t sum = 0;
      for (int j = 16 * half; j < 16 * half + 16; ++j) {
        const float value = inverse == 0.0f ? 0.0f : x[j] * inverse;
        const std::int32_t q = __builtin_bit_cast(std::int32_t, value + kRound) - 0x4b400000;
        block.q[j] = static_cast<std::int8_t>(q);
        sum += q;
      }
      sums[half] = sum;
    }
    block.scale = scale;
    block.sum = scale * static_cast<float>(sums[0] + sums[1]);
    block.minus_sum = -(sums[0] + sums[1]);
    block.minus_half[0] = static_cast<std::int16_t>(-sums[0]);
    block.minus_half[1] = static_cast<std::int16_t>(-sums[1]);
    __builtin_memcpy(out, &block, sizeof block);
  }
}

// ---- The table of a target
// ---------------------------------------------------------------------------------------

template <class Isa>
void packed_entry(DType type, std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride,
                  std::size_t rows, float* out, std::size_t out_stride) {
  const auto quantized = [&](auto tag) {
    quantized_product<Isa, PackedWeights<Isa, tag.kType>>(k, tile, acts, stride, rows, out, out_stride);
  };
  if (visit_quantized(type, quantized)) return;
  if (type == DType::f32) return dense_product<Isa, DType::f32>(k, tile, acts, stride, rows, out, out_stride);
  if (type == DType::f16) return dense_product<Isa, DType::f16>(k, tile, acts, stride, rows, out, out_stride);
  dense_product<Isa, DType::bf16>(k, tile, acts, stride, rows, out, out_stride);
}

template <class Isa>
void expand_entry(DType type, std::size_t k, const Byte* tile, Byte* out) {
  visit_quantized(type, [&](auto tag) { expand<Isa, tag.kType>(k, tile, out); });
}

template <class Isa>
void expanded_entry(DType type, std::size_t k, const Byte* tile, const Byte* acts, std::size_t stride,
                    std::size_t rows, float* out, std::size_t out_stride) {
  visit_quantized(type, [&](auto tag) {
    quantized_product<Isa, ExpandedOf<Isa, tag.kType>>(k, tile, acts, stride, rows, out, out_stride);
  });
}

template <class Isa>
constexpr LinearTable kTableOf{packed_entry<Isa>,    expand_entry<Isa>, expanded_entry<Isa>,
                               quantize_activations, nullptr,           2 * Isa::kRows};

}  // namespace
}  // namespace metal_candle::simd
