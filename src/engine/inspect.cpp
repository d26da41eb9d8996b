#include "engine/inspect.h"

#include <algorithm>
#include <map>
#include <string>

#include "core/json.h"
#include "metal_candle/error.h"
#include "models/registry.h"
#include "nn/kv_cache.h"

namespace metal_candle {
namespace {

/// Parameters that a tensor holds. MLX packs several into a word of "x.weight", whose "x.scales" and
/// "x.biases" are none; config.json says how many bits each takes, for all or for one.
std::uint64_t parameters_of(const StoredTensor& t, const Checkpoint& checkpoint, const Json& quantization) {
  const std::uint64_t elements = t.data.size() / block_bytes(t.dtype) * block_elements(t.dtype);
  const std::size_t dot = t.name.rfind('.');
  const std::string base = t.name.substr(0, dot), part = dot == std::string::npos ? "" : t.name.substr(dot);
  const auto packed = [&](const StoredTensor* weight) {
    return weight && weight->dtype == DType::u32 && checkpoint.store().find(base + ".scales");
  };
  if ((part == ".scales" || part == ".biases") && packed(checkpoint.store().find(base + ".weight"))) return 0;
  if (part != ".weight" || !packed(&t) || !quantization.is_object()) return elements;
  const Json own = quantization.value(base, Json());
  const Json bits =
      own.is_object() && own.contains("bits") ? own["bits"] : quantization.value("bits", Json());
  const bool usable = bits.is_number_unsigned() && bits.get<std::uint64_t>() - 1 < 32;
  return usable ? elements * 32 / bits.get<std::uint64_t>() : elements;
}

void add_tensors(const Checkpoint& checkpoint, const Json& quantization, ModelInfo& info) {
  std::map<std::string, std::uint64_t> bytes;
  for (const StoredTensor& t : checkpoint.store().tensors()) {
    info.tensors.push_back({t.name, std::string(name(t.dtype)), t.shape, t.data.size()});
    bytes[std::string(name(t.dtype))] += t.data.size();
    info.parameters += parameters_of(t, checkpoint, quantization);
  }
  info.dtype_bytes.assign(bytes.begin(), bytes.end());
  std::ranges::stable_sort(info.dtype_bytes, std::ranges::greater{},
                           &std::pair<std::string, std::uint64_t>::second);
}

std::string architecture_of(const Checkpoint& checkpoint, const Json& config) {
  if (const GgufFile* gguf = checkpoint.store().gguf())
    return std::string(gguf->metadata().required_string("general.architecture"));
  const Json type = config.is_object() ? config.value("model_type", Json()) : Json();
  return type.is_string() ? type.get<std::string>() : std::string();
}

/// Of a decoder; of an encoder too. Of anything else there is only the architecture's name.
void add_sizes(const Checkpoint& checkpoint, ModelInfo& info) {
  const auto fill = [&](const auto& of, std::uint32_t context_length) {
    info.layers = of.layers;
    info.hidden_size = of.hidden;
    info.intermediate_size = of.intermediate;
    info.attention_heads = of.heads;
    info.kv_heads = of.kv_heads;
    info.head_dim = of.head_dim;
    info.vocab_size = of.vocab;
    info.context_length = context_length;
  };
  if (is_decoder(info.architecture) || info.architecture.empty()) {
    const ModelConfig config = checkpoint.config();
    return fill(config, config.context_length);
  }
  try {
    const EncoderSpec spec = checkpoint.encoder_spec();
    fill(spec, spec.max_length);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
  }
}

std::uint64_t bytes_on_disk(const WeightStore& store) {
  std::uint64_t sum = 0;
  for (const MappedFile& file : store.files()) sum += file.bytes().size();
  return sum;
}

}  // namespace

simd::KvType kv_type_of(KvDType type) {
  switch (type) {
    case KvDType::f16: return simd::KvType::f16;
    case KvDType::bf16: return simd::KvType::bf16;
    case KvDType::f32: return simd::KvType::f32;
    case KvDType::int8: return simd::KvType::int8;
  }
  throw Error(ErrorCode::invalid_argument, "unknown kv_dtype");
}

ModelInfo describe_checkpoint(const Checkpoint& checkpoint, const Tokenizer* tokenizer) {
  ModelInfo info;
  const WeightStore& store = checkpoint.store();
  info.path = store.path().string();
  info.format = store.gguf() ? "gguf" : "safetensors";
  info.name = checkpoint.name();
  info.file_bytes = bytes_on_disk(store);
  const Json config = store.gguf() || store.tensors().empty() ? Json() : checkpoint.config_json();
  add_tensors(checkpoint, config.is_object() ? config.value("quantization", Json()) : Json(), info);
  info.has_chat_template = checkpoint.chat_template().has_value();
  if (tokenizer) info.tokenizer = tokenizer->kind();
  if (store.tensors().empty()) return info;  // a vocabulary file
  info.architecture = architecture_of(checkpoint, config);
  add_sizes(checkpoint, info);
  return info;
}

ModelInfo inspect_model(const std::filesystem::path& path) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  return describe_checkpoint(checkpoint, checkpoint.tokenizer().get());
}

std::uint64_t ModelInfo::memory_needed(std::uint32_t context, KvDType kv) const {
  std::uint64_t weights = 0;
  for (const auto& [dtype, bytes] : dtype_bytes) weights += bytes;
  return weights + KvCache::bytes({kv_type_of(kv), layers, kv_heads, head_dim}, context);
}

}  // namespace metal_candle
