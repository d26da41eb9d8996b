// Memory for packed weights: one anonymous mapping per model, in huge pages where the system grants them,
// filled in the order in which a token reads it.
#pragma once

#include <cstddef>

namespace metal_candle {

/// Bump allocator over one mapping. Move-only; not thread-safe while allocating.
class WeightArena {
 public:
  /// `passing` memory comes and goes while a model runs (adapters): what is given back serves the next arena
  /// of about the size, since clearing fresh pages costs more than filling them. Meanwhile the system may
  /// take it (MADV_FREE).
  enum class Use { lasting, passing };

  /// Reserves `bytes`, of any content; pages are committed when first written. Throws Error(out_of_memory).
  explicit WeightArena(std::size_t bytes, Use use = Use::lasting);
  ~WeightArena();
  WeightArena(const WeightArena&) = delete;
  WeightArena& operator=(const WeightArena&) = delete;

  /// 64-byte-aligned memory that lives as long as the arena. Throws Error(internal) beyond the reservation.
  std::byte* allocate(std::size_t bytes);
  std::size_t used() const noexcept { return used_; }

  /// What allocate(bytes) takes from the reservation.
  static constexpr std::size_t rounded(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  std::byte* base_ = nullptr;
  std::size_t size_ = 0;
  Use use_;
  std::size_t used_ = 0;
};

}  // namespace metal_candle
