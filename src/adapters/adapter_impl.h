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

  /// The adapter fitted to a model, by `make` the first time; kept until another model asks after this one is
  /// gone. Thread-safe; two threads that ask at once may both make it.
  std::shared_ptr<const BoundAdapter> bound(const std::shared_ptr<const void>& model,
                                            const std::function<std::shared_ptr<const BoundAdapter>()>& make);

  const AdapterFile file;
  AdapterInfo info;

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::weak_ptr<const void>, std::shared_ptr<const BoundAdapter>>> bound_;
};

}  // namespace metal_candle
