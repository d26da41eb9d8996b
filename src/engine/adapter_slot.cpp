#include "engine/adapter_slot.h"

#include <utility>

#include "adapters/adapter_impl.h"

namespace metal_candle {

AdapterSlot::AdapterSlot(Bind bind) : bind_(std::move(bind)), model_(std::make_shared<char>()) {}

std::shared_ptr<const AdapterMix> AdapterSlot::mix(const AdapterChoice& choice) const {
  if (!choice) return applied();
  if (choice->empty()) return nullptr;
  auto out = std::make_shared<AdapterMix>();
  for (const AdapterUse& use : *choice) {
    check_use(use);
    Adapter::Impl& adapter = use.adapter->impl();
    out->uses.push_back(
        {adapter.bound(model_, [&] { return bind_(adapter.file, adapter.info.path); }), use.scale});
  }
  return out;
}

void AdapterSlot::set_applied(std::shared_ptr<const AdapterMix> mix) noexcept {
  const std::lock_guard lock(mutex_);
  applied_.swap(mix);
}

std::shared_ptr<const AdapterMix> AdapterSlot::applied() const {
  const std::lock_guard lock(mutex_);
  return applied_;
}

}  // namespace metal_candle
