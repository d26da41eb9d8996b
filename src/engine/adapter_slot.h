// What a model and its requests do with adapters: fitting those that a request names, and keeping the one
// that requests use unless they say otherwise.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "adapters/bound_adapter.h"
#include "adapters/formats.h"
#include "metal_candle/adapter.h"

namespace metal_candle {

/// Of one model. Thread-safe.
class AdapterSlot {
 public:
  /// Fits an adapter to the model; called on any thread.
  using Bind =
      std::function<std::shared_ptr<const BoundAdapter>(const AdapterFile&, const std::string& path)>;
  explicit AdapterSlot(Bind bind);

  /// The choice fitted to the model; null for none. Throws Error(invalid_argument) for one that does not fit.
  std::shared_ptr<const AdapterMix> mix(const AdapterChoice& choice) const;

  /// What a choice that says nothing means; null: none.
  void set_applied(std::shared_ptr<const AdapterMix> mix) noexcept;
  std::shared_ptr<const AdapterMix> applied() const;

 private:
  const Bind bind_;
  const std::shared_ptr<const void> model_;  // by which adapters know it, and that it is gone
  mutable std::mutex mutex_;
  std::shared_ptr<const AdapterMix> applied_;
};

}  // namespace metal_candle
