#include "kernels/weight_rows.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "kernels/simd/convert.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/half.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::size_t quantum(const simd::WeightFormat& format) {
  return format.bits ? format.group : block_elements(format.type);
}

float scale_at(DType type, const std::byte* data, std::size_t i) {
  if (type == DType::f32) {
    float value;
    std::memcpy(&value, data + 4 * i, sizeof value);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, data + 2 * i, sizeof bits);
  return type == DType::f16 ? simd::f16_to_float(bits) : simd::bf16_to_float(bits);
}

// Whole groups of MLX's affine quantization.
void affine_row(const MatrixSource& part, std::size_t row, std::size_t column, std::size_t count,
                float* out) {
  const simd::WeightFormat& format = part.format;
  const std::size_t groups = part.k / format.group;
  const auto* codes =
      reinterpret_cast<const std::uint8_t*>(part.data.data()) + (row * part.k + column) * format.bits / 8;
  for (std::size_t g = column / format.group; count > 0; ++g, count -= format.group, out += format.group) {
    const float scale = scale_at(format.scales, part.scales.data(), row * groups + g);
    const float bias = scale_at(format.scales, part.biases.data(), row * groups + g);
    if (format.bits == 8) {
      for (std::size_t i = 0; i < format.group; ++i) out[i] = scale * static_cast<float>(codes[i]) + bias;
      codes += format.group;
      continue;
    }
    for (std::size_t i = 0; i < format.group / 2u; ++i) {
      out[2 * i] = scale * static_cast<float>(codes[i] & 15) + bias;
      out[2 * i + 1] = scale * static_cast<float>(codes[i] >> 4) + bias;
    }
    codes += format.group / 2;
  }
}

// Whole blocks.
void decode(const MatrixSource& part, std::size_t row, std::size_t column, std::size_t count, float* out) {
  if (part.format.bits) return affine_row(part, row, column, count, out);
  const DType type = part.format.type;
  const std::byte* from =
      part.data.data() + (row * part.k + column) / block_elements(type) * block_bytes(type);
  const bool aligned = reinterpret_cast<std::uintptr_t>(from) % 2 == 0;
  if (type == DType::f16 && aligned)
    return simd::f16_to_f32(reinterpret_cast<const std::uint16_t*>(from), count, out);
  if (type == DType::bf16 && aligned)
    return simd::bf16_to_f32(reinterpret_cast<const std::uint16_t*>(from), count, out);
  simd::dequantize(type, from, out, count);
}

}  // namespace

WeightRows::WeightRows(std::vector<MatrixSource> parts, std::function<void()> rest)
    : parts_(std::move(parts)), rest_(std::move(rest)) {
  k_ = parts_.empty() ? 0 : parts_.front().k;
  for (const MatrixSource& part : parts_) {
    if (part.k != k_ || part.k % quantum(part.format) != 0)
      throw Error(ErrorCode::invalid_argument, "[weight_rows] stacked matrices must share k");
    const std::size_t elements = part.n * part.k;
    const std::size_t bytes = part.format.bits ? elements * part.format.bits / 8
                                               : byte_size(part.format.type, elements).value_or(0);
    const std::size_t scale_bytes =
        part.format.bits ? elements / part.format.group * block_bytes(part.format.scales) : 0;
    if (part.data.size() != bytes || part.scales.size() != scale_bytes || part.biases.size() != scale_bytes)
      throw Error(ErrorCode::invalid_argument, "[weight_rows] a matrix lacks some of its bytes");
    if (!part.format.bits && !simd::can_dequantize(part.format.type))
      throw Error(ErrorCode::unsupported,
                  "weights of type " + std::string(name(part.format.type)) + " have no float meaning");
    begin_.push_back(begin_.back() + part.n);
  }
}

const float* WeightRows::row(std::size_t row, std::size_t column, std::size_t count, float* scratch) const {
  const auto after = std::upper_bound(begin_.begin() + 1, begin_.end(), row);
  const std::size_t index = static_cast<std::size_t>(after - begin_.begin()) - 1;
  const MatrixSource& part = parts_[index];
  row -= begin_[index];
  if (part.row) row = part.row(row);
  if (part.format == simd::WeightFormat(DType::f32)) {
    const std::byte* from = part.data.data() + (row * part.k + column) * sizeof(float);
    if (reinterpret_cast<std::uintptr_t>(from) % alignof(float) == 0)
      return reinterpret_cast<const float*>(from);
  }
  const std::size_t unit = quantum(part.format), first = column / unit * unit;
  const std::size_t last = (column + count + unit - 1) / unit * unit;
  if (first == column && last == column + count) {
    decode(part, row, column, count, scratch);
    return scratch;
  }
  thread_local std::vector<float> whole;
  whole.resize(last - first);
  decode(part, row, first, last - first, whole.data());
  std::memcpy(scratch, whole.data() + (column - first), count * sizeof(float));
  return scratch;
}

}  // namespace metal_candle
