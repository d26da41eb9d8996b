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

#if HWY_TARGET == HWY_SCALAR
constexpr bool kBlocks = false;
#else
constexpr bool kBlocks = true;
// A square block that fits vectors of 16 bytes. Interleaving vector i with vector i + kSide / 2 rotates the
// bits of an element's index (row, column) by one; rotated half way round, row and column have changed
// places.
template <class T>
HWY_INLINE void transpose_block(const std::byte* in, std::size_t in_stride, std::byte* out,
                                std::size_t out_stride) {
  constexpr std::size_t kSide = 16 / sizeof(T);
  const hn::FixedTag<T, kSide> d;
  hn::Vec<decltype(d)> x[kSide], y[kSide];
  for (std::size_t i = 0; i < kSide; ++i)
    x[i] = hn::LoadU(d, reinterpret_cast<const T*>(in + i * in_stride * sizeof(T)));
  for (std::size_t round = 1; round < kSide; round *= 2) {
    for (std::size_t i = 0; i < kSide / 2; ++i) {
      y[2 * i] = hn::InterleaveLower(d, x[i], x[i + kSide / 2]);
      y[2 * i + 1] = hn::InterleaveUpper(d, x[i], x[i + kSide / 2]);
    }
    for (std::size_t i = 0; i < kSide; ++i) x[i] = y[i];
  }
  for (std::size_t i = 0; i < kSide; ++i)
    hn::StoreU(x[i], d, reinterpret_cast<T*>(out + i * out_stride * sizeof(T)));
}
#endif

template <class T>
void transpose(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out) {
  constexpr std::size_t kSide = 16 / sizeof(T);
  const std::size_t whole_rows = kBlocks ? rows / kSide * kSide : 0;
  const std::size_t whole_columns = columns / kSide * kSide;
#if HWY_TARGET != HWY_SCALAR
  for (std::size_t c = 0; c < whole_columns; c += kSide)
    for (std::size_t r = 0; r < whole_rows; r += kSide)
      transpose_block<T>(in + (r * columns + c) * sizeof(T), columns, out + (c * rows + r) * sizeof(T), rows);
#endif
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
      std::memcpy(out + (c * rows + r) * sizeof(T), in + (r * columns + c) * sizeof(T), sizeof(T));
}

void Transpose16(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out) {
  transpose<std::uint16_t>(in, rows, columns, out);
}
void Transpose32(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out) {
  transpose<std::uint32_t>(in, rows, columns, out);
}

}  // namespace HWY_NAMESPACE
}  // namespace metal_candle::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace metal_candle::simd {
HWY_EXPORT(Transpose16);
HWY_EXPORT(Transpose32);

void transpose_16(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Transpose16)(in, rows, columns, out);
}
void transpose_32(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Transpose32)(in, rows, columns, out);
}

}  // namespace metal_candle::simd
#endif
