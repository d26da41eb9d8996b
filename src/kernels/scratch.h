// Grow-only working memory of one thread, so that a decode step allocates nothing. Not for results.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace metal_candle {

/// 64-byte-aligned buffer whose contents do not survive the next get(). Use as thread_local.
class Scratch {
 public:
  template <typename T>
  T* get(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes > size_) {
      data_.reset();  // never both at once
      data_.reset(static_cast<std::byte*>(::operator new(bytes, kAlign)));
      size_ = bytes;
    }
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  static constexpr std::align_val_t kAlign{64};
  struct Free {
    void operator()(std::byte* p) const noexcept { ::operator delete(p, kAlign); }
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace metal_candle
