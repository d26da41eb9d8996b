// The public Adapter.
#include "adapters/adapter_impl.h"

namespace metal_candle {
namespace {

AdapterInfo describe(const AdapterFile& file, const std::string& path) {
  AdapterInfo info;
  info.path = path;
  info.format = file.format;
  info.base_model = file.base_model;
  info.hash = file.weights->hash();
  info.rank = static_cast<std::uint32_t>(file.weights->max_rank());
  info.bytes = file.weights->bytes();
  for (const LoraModule& m : file.weights->modules()) {
    const char* kind = !m.magnitude.empty() ? "dora" : m.delta.rank > 0 ? "lora" : "replaced";
    info.modules.push_back({module_name(m.id), kind, static_cast<std::uint32_t>(m.delta.rank),
                            m.delta.rank > 0 ? m.delta.scale : 0, m.bytes});
  }
  return info;
}

}  // namespace

Adapter::Impl::Impl(AdapterFile read, const std::string& path)
    : file(std::move(read)), info(describe(file, path)) {}

std::shared_ptr<const BoundAdapter> Adapter::Impl::bound(
    std::uint64_t model, const std::function<std::shared_ptr<const BoundAdapter>()>& make) {
  const auto find = [&]() -> std::shared_ptr<const BoundAdapter> {
    for (const auto& [id, adapter] : bound_)
      if (id == model) return adapter;
    return nullptr;
  };
  {
    const std::lock_guard lock(mutex_);
    if (auto known = find()) return known;
  }
  auto made = make();
  const std::lock_guard lock(mutex_);
  if (auto known = find()) return known;
  bound_.emplace_back(model, made);
  return made;
}

Adapter::Adapter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Adapter::~Adapter() = default;
const AdapterInfo& Adapter::info() const noexcept { return impl_->info; }

std::shared_ptr<const Adapter> Adapter::load(const std::filesystem::path& path) {
  return std::shared_ptr<const Adapter>(
      new Adapter(std::make_unique<Impl>(read_adapter(path), path.string())));
}

void Adapter::save(const std::filesystem::path& directory, std::string_view format,
                   std::uint32_t head_dim) const {
  std::shared_ptr<const LoraWeights> weights = impl_->file.weights;
  if (weights->rotary() == RotaryOrder::interleaved) {
    if (head_dim == 0)
      throw Error(ErrorCode::invalid_argument,
                  impl_->info.path + ": its rows are ordered by attention head; say which model it is for");
    weights = weights->with_halves(head_dim);
  }
  if (format == "peft") return write_peft(directory, *weights, impl_->info.base_model);
  if (format == "mlx") return write_mlx(directory, *weights);
  throw Error(ErrorCode::invalid_argument,
              "adapter format " + std::string(format) + ": expected \"peft\" or \"mlx\"");
}

}  // namespace metal_candle
