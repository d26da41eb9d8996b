#include "kernels/weight_arena.h"

#include <sys/mman.h>

#include <string>

#include "metal_candle/error.h"

namespace metal_candle {

WeightArena::WeightArena(std::size_t bytes) : size_(rounded(bytes) + 64) {
  void* memory =
      mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(ErrorCode::out_of_memory, "cannot reserve " + std::to_string(size_) +
                                              " bytes for weights; free memory or use a smaller model");
  base_ = static_cast<std::byte*>(memory);
#if defined(MADV_HUGEPAGE)
  madvise(memory, size_, MADV_HUGEPAGE);
#endif
}

WeightArena::~WeightArena() { munmap(base_, size_); }

std::byte* WeightArena::allocate(std::size_t bytes) {
  const std::size_t need = rounded(bytes);
  if (need > size_ - used_) throw Error(ErrorCode::internal, "weight arena overrun");
  std::byte* out = base_ + used_;
  used_ += need;
  return out;
}

}  // namespace metal_candle
