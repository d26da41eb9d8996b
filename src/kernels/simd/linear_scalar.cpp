// The portable target: plain loops of 8 lanes, right on every machine.
#include "kernels/simd/linear_kernel.h"

namespace metal_candle::simd {
namespace {

struct Scalar {
  static constexpr int kLanes = 8;
  static constexpr int kRows = 2, kDenseRows = 4, kPackedRows = 4;
  static constexpr bool kWideIsUnsigned = false;
  static constexpr bool kFusedMultiplyAdd = false;
  static constexpr bool kPairs = false;
  static constexpr int vectors(int) { return 1; }

  struct F {
    float v[kLanes];
  };
  struct I {
    std::int32_t v[kLanes];
  };
  struct B {
    Byte v[4 * kLanes];
  };

  template <class V, class Each>
  static MC_INLINE V make(Each each) {
    V out;
    constexpr int kCount = sizeof(V) / sizeof *V::v;  // NOLINT(bugprone-sizeof-expression): B holds bytes
    for (int i = 0; i < kCount; ++i) out.v[i] = each(i);
    return out;
  }

  static MC_INLINE F zero_f() { return set_f(0.0f); }
  static MC_INLINE F set_f(float x) {
    return make<F>([&](int) { return x; });
  }
  static MC_INLINE F mul(const F& a, const F& b) {
    return make<F>([&](int i) { return a.v[i] * b.v[i]; });
  }
  static MC_INLINE F fma(const F& a, const F& b, const F& c) {
    return make<F>([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
  }
  static MC_INLINE F negated(const F& a) {
    return make<F>([&](int i) { return -a.v[i]; });
  }
  static MC_INLINE F to_float(const I& a) {
    return make<F>([&](int i) { return static_cast<float>(a.v[i]); });
  }
  static MC_INLINE F load_f32(const void* p) {
    F out;
    __builtin_memcpy(&out, p, sizeof out);
    return out;
  }
  static MC_INLINE void store_f32(float* p, const F& a) { __builtin_memcpy(p, &a, sizeof a); }
  template <class Convert>
  static MC_INLINE F load_u16(const void* p, Convert convert) {
    std::uint16_t bits[kLanes];
    __builtin_memcpy(bits, p, sizeof bits);
    return make<F>([&](int i) { return convert(bits[i]); });
  }
  static MC_INLINE F load_f16(const void* p) {
    return load_u16(p, [](std::uint16_t bits) { return f16_to_float(bits); });
  }
  static MC_INLINE F load_bf16(const void* p) {
    return load_u16(p, [](std::uint16_t bits) { return bf16_to_float(bits); });
  }
  static MC_INLINE F load_bf16_even(const Byte* p) { return load_pairs(p, 0); }
  static MC_INLINE F load_bf16_odd(const Byte* p) { return load_pairs(p, 2); }
  static MC_INLINE F load_pairs(const Byte* p, int offset) {
    return make<F>([&](int i) {
      std::uint16_t bits;
      __builtin_memcpy(&bits, p + 4 * i + offset, sizeof bits);
      return bf16_to_float(bits);
    });
  }
  static MC_INLINE F load_u8(const Byte* p) {
    return make<F>([&](int i) { return static_cast<float>(p[i]); });
  }
  static MC_INLINE F load_i8(const Byte* p) {
    return make<F>([&](int i) { return static_cast<float>(static_cast<std::int8_t>(p[i])); });
  }
  static MC_INLINE F load_low_nibbles(const Byte* p) {
    return make<F>([&](int i) { return static_cast<float>(p[i] & 15); });
  }
  static MC_INLINE F load_high_nibbles(const Byte* p) {
    return make<F>([&](int i) { return static_cast<float>(p[i] >> 4); });
  }

  static MC_INLINE I zero_i() { return set_i(0); }
  static MC_INLINE I set_i(int x) {
    return make<I>([&](int) { return x; });
  }
  static MC_INLINE I dot(const I& sum, const B& w, const B& x) {
    return make<I>([&](int i) {
      int s = sum.v[i];
      for (int j = 4 * i; j < 4 * i + 4; ++j) s += w.v[j] * static_cast<std::int8_t>(x.v[j]);
      return s;
    });
  }
  static MC_INLINE I dot_wide(const I& sum, const B& w, const B& x) {
    return make<I>([&](int i) {
      int s = sum.v[i];
      for (int j = 4 * i; j < 4 * i + 4; ++j) s += (w.v[j] - 128) * static_cast<std::int8_t>(x.v[j]);
      return s;
    });
  }

  static MC_INLINE B load(const Byte* p) {
    B out;
    __builtin_memcpy(&out, p, sizeof out);
    return out;
  }
  static MC_INLINE void store(Byte* p, const B& a) { __builtin_memcpy(p, &a, sizeof a); }
  static MC_INLINE B broadcast4(const std::int8_t* p) {
    return make<B>([&](int i) { return static_cast<Byte>(p[i % 4]); });
  }
  template <int shift, int mask>
  static MC_INLINE B field(const B& a) {
    return make<B>([&](int i) { return static_cast<Byte>(a.v[i] >> shift & mask); });
  }
  template <int value>
  static MC_INLINE B add_bits(const B& a, const Byte* p) {
    return make<B>([&](int i) { return static_cast<Byte>(a.v[i] | ((p[i / 8] >> (i % 8) & 1) * value)); });
  }
  static MC_INLINE B or_shifted4(const B& low, const B& high) {
    return make<B>([&](int i) { return static_cast<Byte>(low.v[i] | high.v[i] << 4); });
  }
};

}  // namespace

const LinearTable kLinearScalar = kTableOf<Scalar>;

}  // namespace metal_candle::simd
