// What is behind an Adapter: what was read, and what it became for each model that uses it.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "adapters/bound_adapter.h"
#include "adapters/formats.h"
#include "metal_candle/adapter.h"

namespace metal_candle {

/// Throws Error(invalid_argument) unless it is of an adapter, at a finite scale.
void check_use(const AdapterUse& use);

class Adapter::Impl {
 public:
  Impl(AdapterFile read, const std::string& path);
  static std::shared_ptr<const Adapter> wrap(AdapterFile file, const std::string& path);

  /// The adapter fitted to the model of this number, by `make` the first time. Thread-safe; two threads that
  /// ask at once may both make it.
  std::shared_ptr<const BoundAdapter> bound(std::uint64_t model,
                                            const std::function<std::shared_ptr<const BoundAdapter>()>& make);

  const AdapterFile file;
  AdapterInfo info;

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::uint64_t, std::shared_ptr<const BoundAdapter>>> bound_;
};

}  // namespace metal_candle
