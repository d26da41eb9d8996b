#include "engine/inspect.h"

#include <algorithm>
#include <map>
#include <string>

#include "models/tokenizer_loader.h"
#include "nn/kv_cache.h"

namespace metal_candle {
namespace {

void add_tensors(const WeightStore& store, ModelInfo& info) {
  std::map<std::string, std::uint64_t> bytes;
  for (const StoredTensor& t : store.tensors()) {
    info.tensors.push_back({t.name, std::string(name(t.dtype)), t.shape, t.data.size()});
    bytes[std::string(name(t.dtype))] += t.data.size();
    info.parameters += t.data.size() / block_bytes(t.dtype) * block_elements(t.dtype);
  }
  info.dtype_bytes.assign(bytes.begin(), bytes.end());
  std::ranges::stable_sort(info.dtype_bytes, std::ranges::greater{},
                           &std::pair<std::string, std::uint64_t>::second);
}

std::uint64_t bytes_on_disk(const WeightStore& store) {
  if (const GgufFile* gguf = store.gguf()) return gguf->mapping()->bytes().size();
  std::uint64_t sum = 0;
  for (const MappedFile& file : store.safetensors()->files()) sum += file.bytes().size();
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
  add_tensors(store, info);
  info.has_chat_template = checkpoint.chat_template().has_value();
  if (tokenizer) info.tokenizer = tokenizer->kind();
  if (store.tensors().empty()) return info;  // a vocabulary file
  const ModelConfig config = checkpoint.config();
  info.architecture = config.architecture;
  info.layers = config.layers;
  info.hidden_size = config.hidden;
  info.intermediate_size = config.intermediate;
  info.attention_heads = config.heads;
  info.kv_heads = config.kv_heads;
  info.head_dim = config.head_dim;
  info.vocab_size = config.vocab;
  info.context_length = config.context_length;
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
