// The way through LoraEpilogue in 16 bits, on targets that have such products.
#include "kernels/simd/lora_half.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/lora.h"
#include "kernels/scratch.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/linear_half.h"
#include "kernels/simd/lora.h"

namespace metal_candle {
namespace {

// Rows for which a matrix of the other type is worth converting first.
constexpr std::size_t kConvertedRows = 24;

struct Matrix {
  DType type;
  const std::byte* data;
};

// What a half row holds.
void values_of(DType type, const std::byte* row, std::size_t k, float* out) {
  float down;
  std::memcpy(&down, row, sizeof down);
  simd::dequantize(type, row + sizeof down, out, k);
  for (std::size_t i = 0; i < k; ++i) out[i] *= down;
}

// A or B as so many rows multiply it.
Matrix matrix_for(const simd::LoraHalf& products, std::size_t rows, Matrix matrix, std::size_t elements,
                  Scratch& memory) {
  if (matrix.type == products.type || rows < kConvertedRows) return matrix;
  auto* converted = memory.get<std::uint16_t>(elements);
  products.matrix(matrix.type, matrix.data, elements, converted);
  return {products.type, reinterpret_cast<const std::byte*>(converted)};
}

}  // namespace

// Half rows of x, once for all matrices that multiply them; valid until this thread asks for others.
LoraEpilogue::Rows LoraEpilogue::half_rows(std::size_t row, std::size_t rows) const {
  if (!products_) return {};
  if (halves_.data) return halves_.from(row);
  thread_local Scratch memory;
  const std::size_t stride = simd::half_row_stride(k_);
  auto* out = memory.get<std::byte>(simd::kHalfRowLead + rows * stride) + simd::kHalfRowLead;
  for (std::size_t i = 0; i < rows; ++i) {
    if (quantized_.data)
      products_->row_of_quantized(quantized_.from(row + i).data, k_, out + i * stride);
    else
      products_->row(x_ + (row + i) * k_, k_, out + i * stride);
  }
  return {out, stride};
}

void LoraEpilogue::shrink_half(DType type, const std::byte* a, std::size_t ranks, Rows x, std::size_t rows,
                               float* out, std::size_t stride) const {
  thread_local Scratch a_memory, row_memory;
  const Matrix m = matrix_for(*products_, rows, {type, a}, ranks * k_, a_memory);
  products_->shrink(m.type, m.data, ranks, k_, x.data, x.stride, rows, out, stride);
  for (std::size_t i = 0; i < rows; ++i, out += stride) {
    if (std::all_of(out, out + ranks, [](float v) { return std::isfinite(v); })) continue;
    float* exact = row_memory.get<float>(k_);
    values_of(products_->type, x.from(i).data, k_, exact);
    simd::lora_shrink(type, a, ranks, k_, exact, k_, 1, out, stride);
  }
}

void LoraEpilogue::reduced_to_half(float* t, std::size_t rows, std::size_t rank) const {
  for (std::size_t i = 0; i < rows; ++i, t += 1 + rank)
    products_->row(t + 1, rank, reinterpret_cast<std::byte*>(t));
}

void LoraEpilogue::expand_half(const LoraDelta& delta, const float* t, std::size_t rows, std::size_t column,
                               std::size_t columns, float* y, std::size_t stride) const {
  thread_local Scratch t_memory, b_memory;
  const auto* halves = reinterpret_cast<const std::byte*>(t);
  if (shares_) {  // made in shares, which only all together have a largest value
    auto* own = t_memory.get<std::byte>(simd::half_row_bytes(delta.rank));
    products_->row(t + 1, delta.rank, own);
    halves = own;
  }
  const std::size_t tile = delta.rank * kLoraTile;
  const std::byte* b = delta.b + column * delta.rank * block_bytes(delta.type);
  for (std::size_t c = 0; c < columns; c += kLoraTile, b += tile * block_bytes(delta.type)) {
    const Matrix m = matrix_for(*products_, rows, {delta.type, b}, tile, b_memory);
    products_->expand(m.type, m.data, delta.rank, halves, (1 + delta.rank) * sizeof(float), rows, y + c,
                      stride);
  }
}

}  // namespace metal_candle
