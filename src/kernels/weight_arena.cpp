#include "kernels/weight_arena.h"

#include <sys/mman.h>

#include <deque>
#include <mutex>
#include <string>

#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// Mappings of arenas that are gone, for those that come. Any thread.
class SpareMappings {
 public:
  struct Mapping {
    std::byte* base = nullptr;
    std::size_t size = 0;
  };

  /// A mapping of at least `size` and at most a sixteenth more; null if there is none.
  Mapping take(std::size_t size) {
    const std::lock_guard lock(mutex_);
    for (auto it = spare_.begin(); it != spare_.end(); ++it) {
      if (it->size < size || it->size > size + size / 16) continue;
      const Mapping found = *it;
      spare_.erase(it);
      bytes_ -= found.size;
      return found;
    }
    return {};
  }

  void give(Mapping mapping) {
#if defined(MADV_FREE)
    if (mapping.size <= kMostBytes && madvise(mapping.base, mapping.size, MADV_FREE) == 0) {
      const std::lock_guard lock(mutex_);
      spare_.push_back(mapping);
      bytes_ += mapping.size;
      while (bytes_ > kMostBytes) {
        munmap(spare_.front().base, spare_.front().size);
        bytes_ -= spare_.front().size;
        spare_.pop_front();
      }
      return;
    }
#endif
    munmap(mapping.base, mapping.size);
  }

 private:
  static constexpr std::size_t kMostBytes = std::size_t{256} << 20;
  std::mutex mutex_;
  std::deque<Mapping> spare_;  // the oldest first
  std::size_t bytes_ = 0;
};

SpareMappings& spare_mappings() {
  static auto* const spare = new SpareMappings;  // arenas of static duration may outlive any other
  return *spare;
}

}  // namespace

WeightArena::WeightArena(std::size_t bytes, Use use) : size_(rounded(bytes) + 64), use_(use) {
  if (use == Use::passing) {
    const SpareMappings::Mapping spare = spare_mappings().take(size_);
    if (spare.base) {
      base_ = spare.base;
      size_ = spare.size;
      return;
    }
  }
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

WeightArena::~WeightArena() {
  if (use_ == Use::passing)
    spare_mappings().give({base_, size_});
  else
    munmap(base_, size_);
}

std::byte* WeightArena::allocate(std::size_t bytes) {
  const std::size_t need = rounded(bytes);
  if (need > size_ - used_) throw Error(ErrorCode::internal, "weight arena overrun");
  std::byte* out = base_ + used_;
  used_ += need;
  return out;
}

}  // namespace metal_candle
