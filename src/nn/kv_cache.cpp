#include "nn/kv_cache.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "metal_candle/error.h"

namespace metal_candle {

std::size_t KvCache::bytes(const KvShape& shape, std::size_t positions) {
  return 2 * shape.layers * shape.kv_heads * simd::kv_bytes(shape.type, shape.head_dim, positions);
}

KvCache::KvCache(const KvShape& shape, std::size_t capacity)
    : capacity_(capacity), mapped_(bytes(shape, capacity)) {
  void* memory =
      mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(ErrorCode::out_of_memory, "cannot reserve " + std::to_string(mapped_) +
                                              " bytes for a key/value cache; use a smaller context size");
  view_ = {shape.type, static_cast<std::byte*>(memory), simd::kv_bytes(shape.type, shape.head_dim, capacity),
           0};
  view_.layer_bytes = 2 * shape.kv_heads * view_.head_bytes;
}

KvCache::KvCache(KvCache&& other) noexcept
    : view_(other.view_),
      capacity_(other.capacity_),
      length_(std::exchange(other.length_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

KvCache::~KvCache() {
  if (mapped_ != 0) munmap(view_.data, mapped_);
}

}  // namespace metal_candle
