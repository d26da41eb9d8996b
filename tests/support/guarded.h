// Memory that ends at a page nobody may touch: reading or writing one byte past the end is a fault, in every
// build and in code that no sanitizer sees.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>

namespace metal_candle::test {

class Guarded {
 public:
  explicit Guarded(std::size_t size) : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    total_ = (size + page_ - 1) / page_ * page_ + page_;
    void* memory = mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    base_ = static_cast<std::byte*>(memory);
    if (mprotect(base_ + total_ - page_, page_, PROT_NONE) != 0) std::abort();
    data_ = base_ + total_ - page_ - size;
  }
  ~Guarded() { munmap(base_, total_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::byte* data() const { return data_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::size_t page_, total_;
  std::byte* base_;
  std::byte* data_;
};

}  // namespace metal_candle::test
