#include "kernels/embedding.h"

#include <string>

#include "kernels/compute_pool.h"
#include "metal_candle/error.h"
#include "mlx/allocator.h"

namespace metal_candle {

mlx::core::array embed(const PackedLinear& table, std::span<const std::int32_t> ids, const LoraCall* lora) {
  if (ids.empty()) throw Error(ErrorCode::invalid_argument, "[embed] needs at least one token");
  for (std::int32_t id : ids)
    if (id < 0 || static_cast<std::size_t>(id) >= table.out_features())
      throw Error(ErrorCode::invalid_argument, "token id " + std::to_string(id) +
                                                   " is outside the vocabulary of " +
                                                   std::to_string(table.out_features()));
  const std::size_t k = table.in_features();
  namespace mx = mlx::core;
  mx::array result(mx::allocator::malloc(ids.size() * k * sizeof(float)),
                   {static_cast<int>(ids.size()), static_cast<int>(k)}, mx::float32);
  auto* out = result.data<float>();
  compute_pool().parallel_for(ids.size(), 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const auto id = static_cast<std::size_t>(ids[i]);
      table.unpack_row(id, out + i * k);
      if (lora) apply_to_embedding(*lora, i, id, k, out + i * k);
    }
  });
  return result;
}

}  // namespace metal_candle
