// The keys and values of one sequence for all layers. Memory and a length; the layout inside a head is
// kernels/simd/attention_kv.h.
#pragma once

#include <cstddef>

#include "kernels/attention.h"

namespace metal_candle {

/// What all caches of a model share.
struct KvShape {
  simd::KvType type = simd::KvType::f16;
  std::size_t layers = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
};

/// Reserves address space for `capacity` positions; pages are committed as positions are written.
/// Move-only; used by one thread at a time.
class KvCache {
 public:
  /// Throws Error(out_of_memory).
  KvCache(const KvShape& shape, std::size_t capacity);
  ~KvCache();
  KvCache(KvCache&& other) noexcept;
  KvCache& operator=(KvCache&&) = delete;

  const KvView& view() const noexcept { return view_; }
  std::size_t capacity() const noexcept { return capacity_; }
  std::size_t length() const noexcept { return length_; }  ///< positions held

  /// After a forward pass has written `rows` more positions.
  void advance(std::size_t rows) noexcept { length_ += rows; }
  /// Forgets positions from `length` on.
  void truncate(std::size_t length) noexcept { length_ = length < length_ ? length : length_; }

  /// Bytes that `positions` take.
  static std::size_t bytes(const KvShape& shape, std::size_t positions);

 private:
  KvView view_;
  std::size_t capacity_;
  std::size_t length_ = 0;
  std::size_t mapped_ = 0;
};

}  // namespace metal_candle
