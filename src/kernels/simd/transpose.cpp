#include "kernels/simd/transpose.h"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/transpose.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace metal_candle::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Each block of 16 bytes from rows `block_rows` further down.
template <class D>
HWY_INLINE hn::Vec<D> load_blocks(D d, const std::byte* in, std::size_t block_rows, std::size_t row_bytes) {
  using T = hn::TFromD<D>;
  if constexpr (hn::MaxLanes(D()) * sizeof(T) > 16) {
    const hn::Half<D> half;
    const std::size_t rows = hn::Lanes(half) * sizeof(T) / 16 * block_rows;
    return hn::Combine(d, load_blocks(half, in + rows * row_bytes, block_rows, row_bytes),
                       load_blocks(half, in, block_rows, row_bytes));
  } else {
    return hn::LoadU(d, reinterpret_cast<const T*>(in));
  }
}

// Square blocks that fit 16 bytes, as many one below another as fit a vector. Interleaving vector i with
// vector i + kSide / 2 rotates the bits of an element's index (row, column) by one; rotated half way round,
// row and column have changed places.
template <class D>
HWY_INLINE void transpose_blocks(D d, const std::byte* in, std::size_t row_bytes, std::byte* out,
                                 std::size_t out_bytes) {
  using T = hn::TFromD<D>;
  constexpr std::size_t kSide = 16 / sizeof(T);
  hn::Vec<D> x[kSide], y[kSide];
  for (std::size_t i = 0; i < kSide; ++i) x[i] = load_blocks(d, in + i * row_bytes, kSide, row_bytes);
  for (std::size_t round = 1; round < kSide; round *= 2) {
    for (std::size_t i = 0; i < kSide / 2; ++i) {
      y[2 * i] = hn::InterleaveLower(d, x[i], x[i + kSide / 2]);
      y[2 * i + 1] = hn::InterleaveUpper(d, x[i], x[i + kSide / 2]);
    }
    for (std::size_t i = 0; i < kSide; ++i) x[i] = y[i];
  }
  for (std::size_t i = 0; i < kSide; ++i) hn::StoreU(x[i], d, reinterpret_cast<T*>(out + i * out_bytes));
}
#endif

#if HWY_TARGET != HWY_SCALAR
// Rows from `first` on, as far as whole vectors of them go; returns where they end.
template <class D>
HWY_INLINE std::size_t transpose_rows(D d, const std::byte* in, std::size_t first, std::size_t rows,
                                      std::size_t columns, std::byte* out) {
  constexpr std::size_t kSize = sizeof(hn::TFromD<D>), kSide = 16 / kSize;
  const std::size_t step = hn::Lanes(d), end = first + (rows - first) / step * step;
  for (std::size_t c = 0; c + kSide <= columns; c += kSide)
    for (std::size_t r = first; r < end; r += step)
      transpose_blocks(d, in + (r * columns + c) * kSize, columns * kSize, out + (c * rows + r) * kSize,
                       rows * kSize);
  return end;
}
#endif

template <class T>
void transpose(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
               std::size_t count) {
  for (; count > 0; --count, in += rows * columns * sizeof(T), out += rows * columns * sizeof(T)) {
    std::size_t whole_rows = 0, whole_columns = 0;
#if HWY_TARGET != HWY_SCALAR
    whole_columns = columns / (16 / sizeof(T)) * (16 / sizeof(T));
    whole_rows = transpose_rows(hn::CappedTag<T, 64 / sizeof(T)>(), in, 0, rows, columns, out);
    whole_rows = transpose_rows(hn::CappedTag<T, 16 / sizeof(T)>(), in, whole_rows, rows, columns, out);
    if (whole_rows == rows && whole_columns == columns) continue;
#endif
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
        std::memcpy(out + (c * rows + r) * sizeof(T), in + (r * columns + c) * sizeof(T), sizeof(T));
  }
}

void Transpose16(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
                 std::size_t count) {
  transpose<std::uint16_t>(in, rows, columns, out, count);
}
void Transpose32(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
                 std::size_t count) {
  transpose<std::uint32_t>(in, rows, columns, out, count);
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(Transpose16);
HWY_EXPORT(Transpose32);

void transpose_16(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
                  std::size_t count) {
  HWY_DYNAMIC_DISPATCH(Transpose16)(in, rows, columns, out, count);
}
void transpose_32(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out,
                  std::size_t count) {
  HWY_DYNAMIC_DISPATCH(Transpose32)(in, rows, columns, out, count);
}

}  // namespace metal_candle::simd
#endif
