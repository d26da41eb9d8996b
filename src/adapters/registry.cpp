// The public AdapterRegistry: names, versions, and which adapters stay in memory. Free of MLX.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <mutex>

#include "io/quote.h"
#include "metal_candle/adapter.h"

namespace metal_candle {
namespace {

void check_name(const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '_' || c == '-';
  };
  if (name.empty() || name.size() > 128 || name[0] == '.' || !std::ranges::all_of(name, allowed))
    throw Error(ErrorCode::invalid_argument,
                "adapter name " + quote(name) +
                    ": use 1 to 128 letters, digits and \"._-\", not beginning with a dot");
}

}  // namespace

class AdapterRegistry::Impl {
 public:
  explicit Impl(AdapterRegistryOptions options) : options_(options) {}

  void put(const std::string& name, std::shared_ptr<const Adapter> adapter) {
    const std::uint64_t bytes = adapter->info().bytes;
    if (options_.memory_budget > 0 && bytes > options_.memory_budget)
      throw Error(ErrorCode::out_of_memory,
                  "adapter " + name + " takes " + std::to_string(bytes) + " bytes of a memory budget of " +
                      std::to_string(options_.memory_budget) + "; raise the budget");
    Entry entry{adapter->info(), std::move(adapter), 0};
    const std::lock_guard lock(mutex_);
    entry.used = ++clock_;
    entries_.insert_or_assign(name, std::move(entry));
    page_out();
  }

  void erase(const std::string& name) {
    const std::lock_guard lock(mutex_);
    entries_.erase(find(name));
    if (active_ == name) active_.reset();
  }

  std::shared_ptr<const Adapter> get(const std::string& name) {
    std::unique_lock lock(mutex_);
    return use(find(name), std::move(lock));
  }

  /// Null if none is active. In one look: another thread may unload it meanwhile.
  std::shared_ptr<const Adapter> get_active() {
    std::unique_lock lock(mutex_);
    return active_ ? use(find(*active_), std::move(lock)) : nullptr;
  }

  std::vector<AdapterEntry> list() const {
    const std::lock_guard lock(mutex_);
    std::vector<AdapterEntry> out;
    for (const auto& [name, entry] : entries_)
      out.push_back({name, entry.info, entry.adapter != nullptr, active_ == name});
    return out;
  }

  std::uint64_t memory_used() const {
    const std::lock_guard lock(mutex_);
    return resident();
  }

  void activate(const std::string& name) {
    const std::lock_guard lock(mutex_);
    active_ = find(name)->first;
  }
  void deactivate() {
    const std::lock_guard lock(mutex_);
    active_.reset();
  }
  std::optional<std::string> active() const {
    const std::lock_guard lock(mutex_);
    return active_;
  }

 private:
  struct Entry {
    AdapterInfo info;
    std::shared_ptr<const Adapter> adapter;  // null: on disk only
    std::uint64_t used = 0;                  // the clock when it was last asked for
  };
  using Entries = std::map<std::string, Entry>;

  Entries::iterator find(const std::string& name) {
    const auto found = entries_.find(name);
    if (found == entries_.end())
      throw Error(ErrorCode::not_found, "no adapter is named " + quote(name) + "; load it first");
    return found;
  }

  // What an entry names, read again if it is on disk only: without the lock, so that others go on.
  std::shared_ptr<const Adapter> use(Entries::iterator entry, std::unique_lock<std::mutex> lock) {
    entry->second.used = ++clock_;
    if (entry->second.adapter) return entry->second.adapter;
    const std::string name = entry->first;
    const AdapterInfo wanted = entry->second.info;
    lock.unlock();
    auto adapter = Adapter::load(wanted.path);
    if (adapter->info().hash != wanted.hash)
      throw Error(ErrorCode::malformed_file,
                  wanted.path + ": adapter " + name + " is no longer what was loaded; load it again");
    lock.lock();
    const auto found = entries_.find(name);
    if (found != entries_.end() && found->second.info.hash == wanted.hash) {
      if (found->second.adapter) return found->second.adapter;  // another thread was faster
      found->second.adapter = adapter;
      page_out();
    }
    return adapter;
  }

  std::uint64_t resident() const {
    std::uint64_t sum = 0;
    for (const auto& [name, entry] : entries_)
      if (entry.adapter) sum += entry.info.bytes;
    return sum;
  }

  // Forgets the least recently used until the rest fits the budget; the last one used always stays.
  void page_out() {
    if (options_.memory_budget == 0) return;
    for (std::uint64_t bytes = resident(); bytes > options_.memory_budget;) {
      Entry* oldest = nullptr;  // of those that can be read again
      for (auto& [name, entry] : entries_)
        if (entry.adapter && !entry.info.path.empty() && (!oldest || entry.used < oldest->used))
          oldest = &entry;
      if (!oldest) return;
      bytes -= oldest->info.bytes;
      oldest->adapter.reset();
    }
  }

  const AdapterRegistryOptions options_;
  mutable std::mutex mutex_;
  Entries entries_;
  std::optional<std::string> active_;
  std::uint64_t clock_ = 0;
};

AdapterRegistry::AdapterRegistry(AdapterRegistryOptions options) : impl_(std::make_unique<Impl>(options)) {}
AdapterRegistry::~AdapterRegistry() = default;

std::shared_ptr<const Adapter> AdapterRegistry::load_adapter(const std::string& name,
                                                             const std::filesystem::path& path) {
  check_name(name);
  auto adapter = Adapter::load(path);
  impl_->put(name, adapter);
  return adapter;
}

void AdapterRegistry::add_adapter(const std::string& name, std::shared_ptr<const Adapter> adapter) {
  check_name(name);
  if (!adapter) throw Error(ErrorCode::invalid_argument, "adapter " + name + ": there is none to add");
  impl_->put(name, std::move(adapter));
}

void AdapterRegistry::unload_adapter(const std::string& name) { impl_->erase(name); }
std::shared_ptr<const Adapter> AdapterRegistry::get_adapter(const std::string& name) const {
  return impl_->get(name);
}
std::vector<AdapterEntry> AdapterRegistry::list_adapters() const { return impl_->list(); }
std::uint64_t AdapterRegistry::memory_used() const { return impl_->memory_used(); }
void AdapterRegistry::activate(const std::string& name) { impl_->activate(name); }
void AdapterRegistry::deactivate() noexcept { impl_->deactivate(); }
std::optional<std::string> AdapterRegistry::active_adapter() const { return impl_->active(); }

std::vector<AdapterUse> AdapterRegistry::active() const {
  auto adapter = impl_->get_active();
  if (!adapter) return {};
  return {{std::move(adapter), 1}};
}

std::vector<AdapterUse> AdapterRegistry::resolve(std::string_view text) const {
  std::vector<AdapterUse> out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string_view name = text.substr(begin, end - begin);
    AdapterUse use;
    if (const std::size_t colon = name.rfind(':'); colon != std::string_view::npos) {
      const std::string_view number = name.substr(colon + 1);
      const auto parsed = std::from_chars(number.data(), number.data() + number.size(), use.scale);
      if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size() ||
          !std::isfinite(use.scale))
        throw Error(ErrorCode::invalid_argument,
                    "adapters " + quote(text) + ": " + quote(number) + " is not a scale");
      name = name.substr(0, colon);
    }
    use.adapter = impl_->get(std::string(name));
    out.push_back(std::move(use));
    begin = end + 1;
  }
  return out;
}

}  // namespace metal_candle
