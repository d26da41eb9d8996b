// Loading a model and what can be asked of it without generating: sizes, tokens, chat text, scores.
// Generation is generate.h.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metal_candle/adapter.h"
#include "metal_candle/error.h"

namespace metal_candle {

class Tokenizer;  // tokenizer.h

enum class Device {
  automatic,  ///< The GPU if this build's MLX drives one, else the CPU.
  cpu,
  gpu,  ///< Error(unsupported) where there is none.
};

/// Element type of the key/value cache. int8 has one f32 scale for each position and head.
enum class KvDType { f16, bf16, f32, int8 };

struct LoadOptions {
  unsigned threads = 0;  ///< Compute threads; 0: as many CPUs as the process may use (affinity, cgroup).
  Device device = Device::automatic;
  std::uint32_t context_size = 0;  ///< Positions of the KV cache; 0: min(the model's own, 4096).
  KvDType kv_dtype = KvDType::f16;
  std::function<void(double)> progress = {};  ///< Called from the calling thread with the share loaded, 0..1.
};

/// One stored tensor, as the file names it.
struct TensorInfo {
  std::string name;
  std::string dtype;                 ///< "q4_1", "bf16", ...
  std::vector<std::uint64_t> shape;  ///< Row-major, outermost first.
  std::uint64_t bytes = 0;
};

/// What a model file says of itself.
struct ModelInfo {
  std::string path;
  std::string format;        ///< "gguf" or "safetensors".
  std::string architecture;  ///< "llama", "qwen2", ...
  std::string name;          ///< The author's name for it; may be empty.
  std::uint64_t parameters = 0;
  std::uint64_t file_bytes = 0;
  std::uint32_t layers = 0, hidden_size = 0, intermediate_size = 0, attention_heads = 0, kv_heads = 0,
                head_dim = 0, vocab_size = 0, context_length = 0;
  std::string tokenizer;  ///< Kind of tokenizer; empty if the file carries none.
  bool has_chat_template = false;
  std::vector<std::pair<std::string, std::uint64_t>> dtype_bytes;  ///< Bytes per element type, largest first.
  std::vector<TensorInfo> tensors;

  /// Bytes that weights and a KV cache of `context` positions take in memory.
  std::uint64_t memory_needed(std::uint32_t context, KvDType kv = KvDType::f16) const;
};

/// Reads headers only. Throws Error(not_found | malformed_file | unsupported).
ModelInfo inspect_model(const std::filesystem::path& path);

/// The tokenizer of a model file or directory; a GGUF without tensors will do.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& path);

/// One message of a conversation.
struct ChatMessage {
  std::string role;  ///< "system", "user", "assistant", "tool".
  std::string content;
};

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0;  ///< Natural logarithm, of the model's own distribution (temperature 1).
};

/// Teacher-forced reading of a token sequence.
struct Score {
  std::vector<std::optional<float>>
      logprobs;  ///< [n]; entry i: log p(token i | tokens before it); [0] is empty.
  std::vector<std::vector<TokenLogprob>> top;  ///< [n][k]; entry i: the most likely tokens after token i.
};

/// A loaded model: weights, tokenizer and the one engine thread that computes. Thread-safe; share it.
class Model : public ApplyAdapter {
 public:
  /// Loads a GGUF file, a safetensors file, a Hugging Face directory, or the main revision of
  /// "organisation/name" from the local Hugging Face cache ($HF_HUB_CACHE, $HF_HOME/hub,
  /// ~/.cache/huggingface/hub); downloads nothing. Throws Error(not_found | malformed_file | unsupported |
  /// out_of_memory).
  static std::shared_ptr<Model> load(const std::filesystem::path& path, const LoadOptions& options = {});
  ~Model() override;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelInfo& info() const noexcept;
  std::uint32_t context_size() const noexcept;
  /// Throws Error(unsupported) if the model came without one.
  const Tokenizer& tokenizer() const;

  /// The conversation as the model's own template writes it. Throws Error(unsupported) without a template.
  std::string apply_chat_template(std::span<const ChatMessage> messages,
                                  bool add_generation_prompt = true) const;

  /// Log-probabilities of `tokens` (at most context_size()) and the `top_k` best after each.
  Score score(std::span<const std::int32_t> tokens, unsigned top_k = 5,
              const AdapterChoice& adapters = {}) const;

  void apply_adapter(std::shared_ptr<const Adapter> adapter, float scale = 1) override;
  void remove_adapter() noexcept override;
  bool has_adapter() const noexcept override;

  class Impl;
  Impl& impl() const noexcept { return *impl_; }

 private:
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace metal_candle
