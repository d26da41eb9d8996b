#include "kernels/dense_layer.h"

#include <atomic>
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

// What the parts are stored as: one element type for all of them.
DType packed_type(std::span<const MatrixSource> parts, Products products) {
  if (products == Products::int8) return DType::q8_0;
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

// GGUF's q8_0: blocks of 32, an f16 scale and the codes.
void encode_q8_0(const float* x, std::size_t k, std::byte* out) {
  for (std::size_t i = 0; i < k; i += 32, out += 34) {
    float largest = 0;
    for (std::size_t j = i; j < i + 32; ++j) largest = std::max(largest, std::abs(x[j]));
    float scale = largest / 127;
    std::uint16_t bits;
    simd::f32_to_f16(&scale, 1, &bits);
    simd::f16_to_f32(&bits, 1, &scale);  // codes fit the scale as stored
    std::memcpy(out, &bits, 2);
    for (std::size_t j = 0; j < 32; ++j) {
      const float code = scale > 0 ? std::clamp(std::nearbyint(x[i + j] / scale), -127.0f, 127.0f) : 0.0f;
      out[2 + j] = static_cast<std::byte>(static_cast<std::int8_t>(code));
    }
  }
}

void encode(DType type, const float* x, std::size_t k, std::byte* out) {
  if (type == DType::f16) return simd::f32_to_f16(x, k, reinterpret_cast<std::uint16_t*>(out));
  if (type == DType::bf16) return simd::f32_to_bf16(x, k, reinterpret_cast<std::uint16_t*>(out));
  if (type == DType::q8_0) return encode_q8_0(x, k, out);
  std::memcpy(out, x, k * sizeof(float));
}

std::vector<std::byte> recode(const MatrixSource& part, DType type, float largest) {
  const std::size_t k = part.k, in_bytes = *byte_size(part.format.type, k), out_bytes = *byte_size(type, k);
  std::vector<std::byte> out(part.n * out_bytes);
  const bool limited = std::isfinite(largest);
  std::atomic<bool> too_large = false;
  compute_pool().parallel_for(part.n, 64, [&](std::size_t begin, std::size_t end) {
    thread_local std::vector<float> row;
    row.resize(k);
    bool exceeds = false;
    for (std::size_t i = begin; i < end; ++i) {
      simd::dequantize(part.format.type, part.data.data() + i * in_bytes, row.data(), k);
      for (std::size_t j = 0; limited && j < k; ++j) exceeds |= std::abs(row[j]) > largest;
      encode(type, row.data(), k, &out[i * out_bytes]);
    }
    if (exceeds) too_large = true;
  });
  if (too_large)
    throw Error(ErrorCode::unsupported, "16-bit products take weights of at most " +
                                            std::to_string(static_cast<int>(largest)) + "; use f32");
  return out;
}

void check(std::span<const MatrixSource> parts, DType type) {
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
  if (type == DType::q8_0 && k % 32 != 0)
    throw Error(ErrorCode::unsupported, "int8 needs layer widths in multiples of 32, this model has " +
                                            std::to_string(k) + "; use bf16");
}

}  // namespace

DenseLayer DenseLayer::pack(std::span<const MatrixSource> parts, std::vector<float> bias, Products products,
                            WeightArena& arena) {
  const DType type = packed_type(parts, products);
  check(parts, type);
  DenseLayer out;
  out.products_ = products;
  out.bias_ = std::move(bias);
  if (!out.bias_.empty() && out.bias_.size() != total_rows(parts))
    throw Error(ErrorCode::invalid_argument, "[dense_layer] bias must be [out_features]");
  std::vector<std::vector<std::byte>> recoded(parts.size());
  std::vector<MatrixSource> sources(parts.begin(), parts.end());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool ranged = products == Products::half && type == DType::f16;
    if (parts[i].format.type == type && !ranged) continue;
    recoded[i] = recode(parts[i], type, ranged ? simd::kLargestHalfWeight : HUGE_VALF);
    sources[i].format = type;
    sources[i].data = recoded[i];
  }
  out.weight_ = PackedLinear::pack(sources, arena);
  for (const PackedLinear::Segment& segment : out.weight_.segments()) out.tiles_ += segment.tiles;
  return out;
}

std::size_t DenseLayer::packed_bytes(std::span<const MatrixSource> parts, Products products) {
  std::vector<MatrixSource> sources(parts.begin(), parts.end());
  for (MatrixSource& source : sources) source.format = packed_type(parts, products);
  return PackedLinear::packed_bytes(sources);
}

}  // namespace metal_candle
