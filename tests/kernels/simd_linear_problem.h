// What the tests of the packed linear share: random weights of every format, their values, and a run of the
// kernel.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear.h"
#include "kernels/simd/target.h"

namespace metal_candle::simd {

inline const std::vector<WeightFormat> kQuantizedFormats = {DType::q4_0,
                                                            DType::q4_1,
                                                            DType::q5_0,
                                                            DType::q5_1,
                                                            DType::q8_0,
                                                            DType::q2_k,
                                                            DType::q3_k,
                                                            DType::q4_k,
                                                            DType::q5_k,
                                                            DType::q6_k,
                                                            WeightFormat::affine(4, 32, DType::f16),
                                                            WeightFormat::affine(4, 64, DType::bf16),
                                                            WeightFormat::affine(4, 128, DType::f32),
                                                            WeightFormat::affine(8, 32, DType::f32),
                                                            WeightFormat::affine(8, 64, DType::f16),
                                                            WeightFormat::affine(8, 128, DType::bf16)};
inline const std::vector<WeightFormat> kDenseFormats = {DType::f32, DType::f16, DType::bf16};

inline std::string label(const WeightFormat& f) {
  if (f.bits == 0) return std::string(metal_candle::name(f.type));
  return "affine" + std::to_string(f.bits) + "_g" + std::to_string(f.group) + "_" +
         std::string(metal_candle::name(f.scales));
}

/// `x` as stored in a type, truncated; f16 only in its normal range.
inline std::vector<std::byte> stored(DType type, float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  std::uint16_t half = static_cast<std::uint16_t>(bits >> 16);
  if (type == DType::f16) {
    half = static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | (((bits >> 23 & 0xffu) - 112) << 10) |
                                      (bits >> 13 & 0x3ffu));
  }
  std::vector<std::byte> out(type == DType::f32 ? 4 : 2);
  std::memcpy(out.data(), type == DType::f32 ? static_cast<const void*>(&bits) : &half, out.size());
  return out;
}

/// One random row of weights in its file's layout, and its values. Every code and scale byte occurs.
struct WeightRow {
  std::vector<std::byte> data, scales, biases;  // the last two for affine formats
  std::vector<float> values;

  WeightRow(const WeightFormat& format, std::size_t k, std::mt19937& random) : values(k) {
    if (format.bits) {
      affine(format, k, random);
      return;
    }
    data.resize(*byte_size(format.type, k));
    is_quantized(format.type) ? blocks(format.type, random) : dense(format.type, k, random);
    dequantize(format.type, data.data(), values.data(), k);
  }

 private:
  void put(std::size_t at, const std::vector<std::byte>& bytes) {
    std::copy(bytes.begin(), bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(at));
  }

  void blocks(DType type, std::mt19937& random) {
    std::uniform_real_distribution<float> scale(0.001f, 0.02f);
    const auto put_scale = [&](std::size_t at, float factor) {
      put(at, stored(DType::f16, factor * scale(random)));
    };
    for (std::byte& b : data) b = static_cast<std::byte>(random());
    for (std::size_t at = 0; at < data.size(); at += block_bytes(type)) {
      switch (type) {
        case DType::q2_k: put_scale(at + 80, 1), put_scale(at + 82, 1); break;
        case DType::q3_k: put_scale(at + 108, -1); break;
        case DType::q6_k: put_scale(at + 208, 1.0f / 16); break;
        case DType::q4_0:
        case DType::q5_0:
        case DType::q8_0: put_scale(at, 1); break;
        default: put_scale(at, 1), put_scale(at + 2, -1); break;
      }
    }
  }

  void dense(DType type, std::size_t k, std::mt19937& random) {
    std::normal_distribution<float> normal(0.0f, 0.05f);
    for (std::size_t i = 0; i < k; ++i) {
      const float x = normal(random);
      put(i * block_bytes(type), stored(type, std::copysign(std::max(std::abs(x), 1e-3f), x)));
    }
  }

  /// MLX's definition: code i is bits [i·bits, (i+1)·bits) of little-endian 32-bit words.
  void affine(const WeightFormat& format, std::size_t k, std::mt19937& random) {
    std::uniform_real_distribution<float> scale(0.001f, 0.02f);
    for (std::size_t group = 0; group < k / format.group; ++group) {
      for (auto [to, x] : {std::pair{&scales, scale(random)}, std::pair{&biases, -8 * scale(random)}}) {
        const std::vector<std::byte> bytes = stored(format.scales, x);
        to->insert(to->end(), bytes.begin(), bytes.end());
      }
    }
    std::vector<float> scale_values(k / format.group), bias_values(k / format.group);
    dequantize(format.scales, scales.data(), scale_values.data(), scale_values.size());
    dequantize(format.scales, biases.data(), bias_values.data(), bias_values.size());
    std::vector<std::uint32_t> words(k * format.bits / 32);
    for (std::uint32_t& word : words) word = static_cast<std::uint32_t>(random());
    for (std::size_t i = 0; i < k; ++i) {
      const std::uint32_t code =
          words[i * format.bits / 32] >> (i * format.bits % 32) & ((1u << format.bits) - 1);
      const float product = scale_values[i / format.group] * static_cast<float>(code);
      values[i] = product + bias_values[i / format.group];
    }
    data.resize(words.size() * 4);
    std::memcpy(data.data(), words.data(), data.size());
  }
};

/// One tile (n ≤ kTileRows real rows), m activation rows, and what the kernel makes of them.
struct Problem {
  static constexpr std::size_t kOutStride = kTileRows + 3;
  WeightFormat format;
  std::size_t n, k, m;
  std::vector<WeightRow> weights;
  std::vector<float> x;
  std::vector<std::byte> tile;

  Problem(const WeightFormat& format, std::size_t n, std::size_t k, std::size_t m)
      : format(format), n(n), k(k), m(m), x(m * k) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (std::size_t j = 0; j < n; ++j) weights.emplace_back(format, k, random);
    for (float& v : x) v = normal(random);
    pack();
  }

  void pack() {
    tile.assign(packed_tile_bytes(format, k), std::byte{0xff});
    const std::byte* rows[kTileRows] = {};
    AffineRow affine_rows[kTileRows];
    for (std::size_t j = 0; j < n; ++j) {
      rows[j] = weights[j].data.data();
      affine_rows[j] = {weights[j].data.data(), weights[j].scales.data(), weights[j].biases.data()};
    }
    format.bits ? pack_affine_tile(format, k, affine_rows, tile.data())
                : pack_tile(format, k, rows, tile.data());
  }

  /// [m][kOutStride]. Strides larger than needed, and every start misaligned, as callers may have them.
  std::vector<float> run(DenseProducts products = DenseProducts::f32) const {
    const std::size_t stride = activation_row_bytes(format, k) + 8;
    std::vector<std::byte> acts(m * stride + 8), moved(tile.size() + 1);
    for (std::size_t r = 0; r < m; ++r)
      prepare_activations(format, &x[r * k], k, acts.data() + 4 + r * stride);
    std::copy(tile.begin(), tile.end(), moved.begin() + 1);
    std::vector<float> out(m * kOutStride, std::numeric_limits<float>::quiet_NaN());
    linear_tile(format, k, moved.data() + 1, acts.data() + 4, stride, m, out.data(), kOutStride, products);
    return out;
  }

  std::vector<float> weight_row(std::size_t j) const {
    return j < n ? weights[j].values : std::vector<float>(k);
  }
};

}  // namespace metal_candle::simd
