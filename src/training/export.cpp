#include "training/export.h"

#include <cstring>
#include <deque>

#include "adapters/formats.h"
#include "io/directory.h"
#include "io/safetensors_writer.h"
#include "kernels/simd/convert.h"

namespace metal_candle {

void export_adapter(TrainableModel& model, const std::filesystem::path& directory, const std::string& format,
                    const std::string& base_model) {
  std::deque<StoredTensor> tensors;
  std::vector<LoraSource> sources;
  const auto add = [&](const Parameter& p) {
    return &tensors.emplace_back(
        StoredTensor{p.name, DType::f32, p.shape, std::as_bytes(std::span(p.value))});
  };
  for (const TrainableMatrix& m : adaptable_matrices(model)) {
    const auto& lora = m.linear->segments()[m.segment].lora;
    if (!lora) continue;
    LoraSource& s = sources.emplace_back();
    s.id = m.id;
    s.a = add(lora->a);
    s.b = add(lora->b);
    s.b_rank_first = true;
    s.scale = lora->scale;
    if (lora->magnitude) s.magnitude = add(*lora->magnitude);
  }
  const auto weights = LoraWeights::build(std::move(sources), "the trained adapter");
  if (format == "mlx")
    write_mlx(directory, *weights);
  else
    write_peft(directory, *weights, base_model);
}

void export_model(TrainableModel& model, const std::filesystem::path& from,
                  const std::filesystem::path& directory, DType type) {
  std::deque<std::vector<std::uint16_t>> rounded;
  std::vector<StoredTensor> tensors;
  for (const Parameter& p : model.parameters) {
    std::span<const std::byte> bytes = std::as_bytes(std::span(p.value));
    if (type != DType::f32) {
      std::vector<std::uint16_t>& words = rounded.emplace_back(p.value.size());
      (type == DType::f16 ? simd::f32_to_f16 : simd::f32_to_bf16)(p.value.data(), p.value.size(),
                                                                  words.data());
      bytes = std::as_bytes(std::span(words));
    }
    tensors.push_back({p.name, type, p.shape, bytes});
  }
  make_directory(directory);
  write_safetensors(directory / "model.safetensors", tensors, {{"format", "pt"}});
  copy_companions(from, directory);
}

}  // namespace metal_candle
