// Grow-only working memory of one thread, so that a decode step allocates nothing. Not for results.
#pragma once

#include <sys/mman.h>

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
      const std::align_val_t align = bytes < kHugePage ? kAlign : std::align_val_t{kHugePage};
      data_ = {static_cast<std::byte*>(::operator new(bytes, align)), Free{align}};
      size_ = bytes;
#ifdef MADV_HUGEPAGE  // fewer entries of the translation buffer; where the system has none to give, it
                      // refuses
      if (bytes >= kHugePage) ::madvise(data_.get(), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
    }
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  static constexpr std::align_val_t kAlign{64};
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  struct Free {
    std::align_val_t align;
    void operator()(std::byte* p) const noexcept { ::operator delete(p, align); }
  };
  std::unique_ptr<std::byte, Free> data_{nullptr, Free{kAlign}};
  std::size_t size_ = 0;
};

}  // namespace metal_candle
