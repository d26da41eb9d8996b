#include "kernels/dense_layer.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/compute_pool.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/dequantize.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

bool is_half_or_float(DType type) { return type == DType::f32 || type == DType::f16 || type == DType::bf16; }

// What the parts are stored as: one format for all of them.
simd::WeightFormat packed_format(std::span<const MatrixSource> parts, Products products) {
  if (products == Products::int8) return simd::int8_weight_format(parts.front().k);
  if (products == Products::half) return simd::half_weight_type();
  const DType first = parts.front().format.type;
  for (const MatrixSource& part : parts)
    if (part.format.type != first) return DType::f32;
  return is_half_or_float(first) ? first : DType::f32;
}

std::size_t total_rows(std::span<const MatrixSource> parts) {
  std::size_t n = 0;
  for (const MatrixSource& part : parts) n += part.n;
  return n;
}

// A group of int8_weight_format(); returns its scale, rounded up to 16 bits; NaN if a weight is not finite.
float encode_int8(const float* x, std::size_t n, std::byte* codes) {
  float largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) return std::fill_n(codes, n, std::byte{128}), std::nanf("");
    largest = std::max(largest, std::abs(x[i]));
  }
  const float scale = std::bit_cast<float>((std::bit_cast<std::uint32_t>(largest / 127) + 0xff) & ~0xffu);
  for (std::size_t i = 0; i < n; ++i) {
    const float code = scale > 0 ? std::clamp(std::nearbyint(x[i] / scale), -127.0f, 127.0f) : 0.0f;
    codes[i] = static_cast<std::byte>(static_cast<int>(code) + 128);
  }
  return scale;
}

void encode(DType type, const float* x, std::size_t k, std::byte* out) {
  if (type == DType::f16) return simd::f32_to_f16(x, k, reinterpret_cast<std::uint16_t*>(out));
  if (type == DType::bf16) return simd::f32_to_bf16(x, k, reinterpret_cast<std::uint16_t*>(out));
  std::memcpy(out, x, k * sizeof(float));
}

struct Recoded {
  std::vector<std::byte> data;
  std::vector<float> scales, biases;  // int8: [n, k / group]
};

// Throws if a weight is larger than `largest`.
Recoded recode(const MatrixSource& part, const simd::WeightFormat& format, float largest) {
  const bool int8 = format.bits != 0, limited = std::isfinite(largest);
  const std::size_t k = part.k, group = format.group, in_bytes = *byte_size(part.format.type, k);
  const std::size_t out_bytes = int8 ? k : *byte_size(format.type, k);
  Recoded out;
  out.data.resize(part.n * out_bytes);
  if (int8) out.scales = out.biases = std::vector<float>(part.n * (k / group));
  std::atomic<bool> too_large = false;
  compute_pool().parallel_for(part.n, 64, [&](std::size_t begin, std::size_t end) {
    thread_local std::vector<float> row;
    row.resize(k);
    bool exceeds = false;
    for (std::size_t i = begin; i < end; ++i) {
      simd::dequantize(part.format.type, part.data.data() + i * in_bytes, row.data(), k);
      for (std::size_t j = 0; limited && j < k; ++j) exceeds |= std::abs(row[j]) > largest;
      std::byte* to = &out.data[i * out_bytes];
      if (int8)
        for (std::size_t at = 0; at < k; at += group) {
          const std::size_t g = (i * k + at) / group;
          out.scales[g] = encode_int8(row.data() + at, group, to + at);
          out.biases[g] = -128 * out.scales[g];
        }
      else
        encode(format.type, row.data(), k, to);
    }
    if (exceeds) too_large = true;
  });
  if (too_large)
    throw Error(ErrorCode::unsupported, "16-bit products take weights of at most " +
                                            std::to_string(static_cast<int>(largest)) + "; use f32");
  return out;
}

void check(std::span<const MatrixSource> parts, Products products) {
  const std::size_t k = parts.front().k;
  for (const MatrixSource& part : parts) {
    const auto bytes = byte_size(part.format.type, k);
    if (part.k != k || !bytes || part.data.size() != part.n * *bytes)
      throw Error(ErrorCode::invalid_argument,
                  "[dense_layer] stacked matrices must share k and hold n * k values");
    if (!simd::can_dequantize(part.format.type))
      throw Error(ErrorCode::unsupported,
                  "weights of type " + std::string(name(part.format.type)) + " have no float meaning");
  }
  if (products == Products::int8 && k % 32 != 0)
    throw Error(ErrorCode::unsupported, "int8 needs layer widths in multiples of 32, this model has " +
                                            std::to_string(k) + "; use bf16");
}

}  // namespace

DenseLayer DenseLayer::pack(std::span<const MatrixSource> parts, std::vector<float> bias, Products products,
                            WeightArena& arena) {
  check(parts, products);
  const simd::WeightFormat format = packed_format(parts, products);
  DenseLayer out;
  out.products_ = products;
  out.bias_ = std::move(bias);
  if (!out.bias_.empty() && out.bias_.size() != total_rows(parts))
    throw Error(ErrorCode::invalid_argument, "[dense_layer] bias must be [out_features]");
  std::vector<Recoded> recoded(parts.size());
  std::vector<MatrixSource> sources(parts.begin(), parts.end());
  const bool ranged = products == Products::half && format.type == DType::f16;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].format == format && !ranged) continue;
    recoded[i] = recode(parts[i], format, ranged ? simd::kLargestHalfWeight : HUGE_VALF);
    sources[i].format = format;
    sources[i].data = recoded[i].data;
    sources[i].scales = std::as_bytes(std::span(recoded[i].scales));
    sources[i].biases = std::as_bytes(std::span(recoded[i].biases));
  }
  out.weight_ = PackedLinear::pack(sources, arena);
  for (const PackedLinear::Segment& segment : out.weight_.segments()) out.tiles_ += segment.tiles;
  return out;
}

std::size_t DenseLayer::packed_bytes(std::span<const MatrixSource> parts, Products products) {
  std::vector<MatrixSource> sources(parts.begin(), parts.end());
  for (MatrixSource& source : sources) source.format = packed_format(parts, products);
  return PackedLinear::packed_bytes(sources);
}

}  // namespace metal_candle
