// The public Adapter, and what is done with several.
#include <cmath>
#include <map>

#include "adapters/adapter_impl.h"
#include "adapters/low_rank.h"
#include "adapters/mix.h"
#include "io/quote.h"

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
    info.modules.push_back({file.weights->name(m.id), kind, static_cast<std::uint32_t>(m.delta.rank),
                            m.delta.rank > 0 ? m.delta.scale : 0, m.bytes});
  }
  return info;
}

}  // namespace

void check_use(const AdapterUse& use) {
  if (!use.adapter) throw Error(ErrorCode::invalid_argument, "an adapter is named that is null");
  if (!std::isfinite(use.scale))
    throw Error(ErrorCode::invalid_argument,
                "adapter " + quote_path(use.adapter->info().path) + ": its scale is not finite");
}

Adapter::Impl::Impl(AdapterFile read, const std::string& path)
    : file(std::move(read)), info(describe(file, path)) {}

std::shared_ptr<const BoundAdapter> Adapter::Impl::bound(
    const std::shared_ptr<const void>& model,
    const std::function<std::shared_ptr<const BoundAdapter>()>& make) {
  const auto find = [&]() -> std::shared_ptr<const BoundAdapter> {
    for (const auto& [known, adapter] : bound_)
      if (known.lock() == model) return adapter;
    return nullptr;
  };
  {
    const std::lock_guard lock(mutex_);
    if (auto known = find()) return known;
  }
  auto made = make();
  const std::lock_guard lock(mutex_);
  if (auto known = find()) return known;
  std::erase_if(bound_, [](const auto& entry) { return entry.first.expired(); });
  bound_.emplace_back(model, made);
  return made;
}

std::shared_ptr<const Adapter> Adapter::Impl::wrap(AdapterFile file, const std::string& path) {
  return std::shared_ptr<const Adapter>(new Adapter(std::make_unique<Impl>(std::move(file), path)));
}

Adapter::Adapter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Adapter::~Adapter() = default;
const AdapterInfo& Adapter::info() const noexcept { return impl_->info; }

std::shared_ptr<const Adapter> Adapter::load(const std::filesystem::path& path) {
  return Impl::wrap(read_adapter(path), path.string());
}

void Adapter::save(const std::filesystem::path& path, std::string_view format,
                   const AdapterBase& base) const {
  const AdapterFile& file = impl_->file;
  const auto ordered = [&](RotaryOrder order) {
    if (base.head_dim == 0 && file.weights->rotary() != order)
      throw Error(ErrorCode::invalid_argument,
                  info().path + ": its rows are ordered by attention head; say which model it is for");
    return LoraWeights::ordered(file.weights, order, base.head_dim, info().path);
  };
  if (format == "peft") return write_peft(path, *ordered(RotaryOrder::halves), file.base_model);
  if (file.weights->names().encoder() && (format == "mlx" || format == "gguf"))
    throw Error(ErrorCode::unsupported, info().path + ": it is for an encoder; only peft says that");
  if (format == "mlx") return write_mlx(path, *ordered(RotaryOrder::halves));
  if (format != "gguf")
    throw Error(ErrorCode::invalid_argument,
                "adapter format " + std::string(format) + ": expected \"peft\", \"mlx\" or \"gguf\"");
  const std::string architecture =
      base.architecture.empty() ? file.architecture : gguf_architecture(base.architecture);
  if (architecture.empty())
    throw Error(ErrorCode::invalid_argument,
                info().path + ": a GGUF adapter names its model's architecture; say which model it is for");
  write_gguf_adapter(path, *ordered(gguf_rotary(architecture)), file.base_model, architecture);
}

std::shared_ptr<const Adapter> mix_adapters(const std::vector<AdapterUse>& adapters,
                                            const MixOptions& options) {
  std::vector<MixPart> parts;
  for (const AdapterUse& use : adapters) {
    check_use(use);
    parts.push_back({use.adapter->impl().file.weights.get(), static_cast<double>(use.scale)});
  }
  auto weights = mix_weights(parts, options);
  return Adapter::Impl::wrap(
      {"mix", adapters.front().adapter->info().base_model, std::move(weights), nullptr}, "");
}

std::vector<AdapterDifference> compare_adapters(const Adapter& first, const Adapter& second) {
  if (first.impl().file.weights->rotary() != second.impl().file.weights->rotary())
    throw Error(
        ErrorCode::unsupported,
        first.info().path + " and " + second.info().path +
            ": one is a GGUF adapter of a Llama model, whose rows stand in another order: convert it to "
            "peft first");
  std::map<WeightId, AdapterDifference> modules;
  std::map<WeightId, LowRank> differences;
  const auto add = [&](const Adapter& adapter, double sign, double AdapterDifference::*norm) {
    const ModuleNames& names = adapter.impl().file.weights->names();
    for (const LoraModule& m : adapter.impl().file.weights->modules()) {
      const LoraFactors factors = LoraFactors::of(m, names);
      const double scale = static_cast<double>(m.delta.scale);
      LowRank alone;
      alone.add(factors, scale);
      modules[m.id].module = names.name(m.id);
      modules[m.id].*norm = alone.norm();
      differences[m.id].add(factors, sign * scale);
    }
  };
  add(first, 1, &AdapterDifference::first);
  add(second, -1, &AdapterDifference::second);
  std::vector<AdapterDifference> out;
  for (auto& [id, module] : modules) {
    module.difference = differences[id].norm();
    out.push_back(std::move(module));
  }
  return out;
}

}  // namespace metal_candle
