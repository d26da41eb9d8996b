// GGUF adapters, as llama.cpp's convert_lora_to_gguf writes them: <tensor>.weight.lora_a and .lora_b, one
// alpha.
#include <map>

#include "adapters/format_common.h"
#include "adapters/formats.h"
#include "io/gguf.h"
#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {

AdapterFile read_gguf_adapter(const std::filesystem::path& path) {
  const GgufFile gguf = GgufFile::open(path);
  const std::string file = quote_path(path);
  const GgufMetadata& metadata = gguf.metadata();
  const auto require = [&](std::string_view key, std::string_view wanted) {
    const std::string_view got = metadata.required_string(key);
    if (got != wanted)
      throw Error(ErrorCode::unsupported,
                  file + ": " + std::string(key) + ": " + quote(got) + " is not " + std::string(wanted));
  };
  require("general.type", "adapter");
  require("adapter.type", "lora");
  for (const GgufEntry& entry : metadata.entries())
    if (entry.key.starts_with("adapter.") && entry.key != "adapter.type" && entry.key != "adapter.lora.alpha")
      throw Error(ErrorCode::unsupported, file + ": " + quote(entry.key) + ": this field is not honoured");
  const double alpha = metadata.required_f64("adapter.lora.alpha");
  std::map<WeightId, LoraSource> sources;
  for (const StoredTensor& t : gguf.tensors()) {
    std::string_view name = t.name;
    const bool is_a = name.ends_with(".weight.lora_a");
    if (!is_a && !name.ends_with(".weight.lora_b"))
      throw Error(ErrorCode::unsupported, file + ": " + quote(name) + ": no part of a LoRA adapter");
    name.remove_suffix(std::string_view(".weight.lora_a").size());
    const WeightId id = adaptable_module(NameScheme::gguf, name, file, t.name);
    LoraSource& s = sources[id];
    s.id = id;
    s.a_rank_first = id.role != WeightRole::embedding;  // a table is stored by token
    (is_a ? s.a : s.b) = &t;
  }
  std::vector<LoraSource> list;
  for (auto& [id, s] : sources) {
    if (!s.a || !s.b || s.b->shape.size() != 2)
      throw Error(ErrorCode::malformed_file, file + ": " + weight_name(NameScheme::gguf, id) +
                                                 ": needs a matrix lora_a and a matrix lora_b");
    s.scale = alpha != 0 ? alpha / static_cast<double>(s.b->shape[1]) : 1;
    list.push_back(std::move(s));
  }
  if (list.empty()) throw Error(ErrorCode::malformed_file, file + ": holds no tensors");
  // The converter gives q and k of this architecture the row order of its models.
  const bool interleaved = metadata.required_string("general.architecture") == "llama";
  auto weights =
      LoraWeights::build(std::move(list), file, interleaved ? RotaryOrder::interleaved : RotaryOrder::halves);
  const std::string base(metadata.optional_string("general.base_model.0.name").value_or(""));
  return {"gguf", base, weights,
          [weights](WeightId id, std::uint32_t) { return weights->find(id) != nullptr; }};
}

}  // namespace metal_candle
