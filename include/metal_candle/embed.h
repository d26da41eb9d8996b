// Sentence embeddings and reranking with BERT, MPNet, XLM-RoBERTa, ModernBERT and decoders (Qwen3-Embedding).
// Text generation is generate.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/adapter.h"
#include "metal_candle/error.h"

namespace metal_candle {

/// Well-known models, for those who would rather not write a path.
enum class EmbeddingModelType {
  E5SmallV2,       ///< intfloat/e5-small-v2, 384 dimensions; wants the prompts "query: " and "passage: "
  AllMiniLML6V2,   ///< sentence-transformers/all-MiniLM-L6-v2, 384 dimensions
  AllMpnetBaseV2,  ///< sentence-transformers/all-mpnet-base-v2, 768 dimensions
};

/// "intfloat/e5-small-v2", ...
std::string_view repository(EmbeddingModelType type) noexcept;
/// Dimensions of its vectors.
std::size_t dimensions(EmbeddingModelType type) noexcept;

/// How an encoder multiplies. Sums are f32 always.
enum class EmbeddingDType {
  f32,
  bf16,  ///< Weights and activations rounded to bfloat16 (on CPUs without such products only the weights).
  int8,  ///< Weights and activations as 8-bit integers with a scale for every 32.
};

struct EmbeddingLoadOptions {
  EmbeddingDType dtype = EmbeddingDType::bf16;
  unsigned threads = 0;  ///< Compute threads; 0: as many CPUs as the process may use.
  std::optional<std::size_t> max_length =
      {};  ///< Tokens a text is cut to, instead of the model's own setting.
};

enum class Truncation { right, left };  ///< Which end of an over-long text is dropped.

struct EmbedOptions {
  std::string prompt_name = {};            ///< One of prompts(); empty: the model's default, if it has one.
  std::optional<std::string> prompt = {};  ///< Put before every text as it is; wins over prompt_name.
  std::size_t dimensions = 0;  ///< Keep only the first so many (Matryoshka models), normalised anew; 0: all.
  bool normalize = false;      ///< L2-normalise even where the model does not.
  Truncation truncation = Truncation::right;
  AdapterChoice adapters = {};  ///< LoRA adapters of these texts; nothing said: the applied one.
  /// Called on the calling thread with the share of texts done, 0..1. What it throws ends the call.
  std::function<void(double)> progress = {};
};

/// A row-major float matrix: row i is the vector of text i.
struct Embeddings {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<float> values;

  std::span<const float> row(std::size_t i) const { return {values.data() + i * columns, columns}; }
};

/// Turns texts into vectors. Thread-safe: concurrent calls take turns on the compute threads. A text's vector
/// is the same alone and in any batch.
class EmbeddingModel : public ApplyAdapter {
 public:
  /// A directory in the layout of sentence-transformers or Hugging Face, a .safetensors file in one, or a
  /// GGUF (`bert`, `nomic-bert`), or a name in the local Hugging Face cache. Throws Error(not_found |
  /// malformed_file | unsupported | out_of_memory).
  static std::shared_ptr<EmbeddingModel> load(const std::filesystem::path& path,
                                              const EmbeddingLoadOptions& options = {});
  /// From the local Hugging Face cache (HF_HUB_CACHE, HF_HOME or ~/.cache/huggingface). Nothing is
  /// downloaded: Error(not_found) says what is missing.
  static std::shared_ptr<EmbeddingModel> load(EmbeddingModelType type,
                                              const EmbeddingLoadOptions& options = {});
  ~EmbeddingModel() override;
  EmbeddingModel(const EmbeddingModel&) = delete;
  EmbeddingModel& operator=(const EmbeddingModel&) = delete;

  std::size_t dimensions() const noexcept;
  std::size_t max_length() const noexcept;           ///< In tokens, special ones included.
  const std::string& architecture() const noexcept;  ///< "bert", "mpnet", ...
  const std::map<std::string, std::string>& prompts() const noexcept;

  /// Empty and blank texts have vectors like any other; bytes that are not UTF-8 count as U+FFFD.
  /// Throws Error(invalid_argument) on an empty list, an unknown prompt name or more dimensions than there
  /// are.
  Embeddings embed(std::span<const std::string_view> texts, const EmbedOptions& options = {}) const;
  Embeddings embed(std::span<const std::string> texts, const EmbedOptions& options = {}) const;
  /// One text's vector.
  std::vector<float> embed(std::string_view text, const EmbedOptions& options = {}) const;

  // ApplyAdapter: what calls use that do not choose for themselves.
  void apply_adapter(std::shared_ptr<const Adapter> adapter, float scale = 1) override;
  void remove_adapter() noexcept override;
  bool has_adapter() const noexcept override;

 private:
  class Impl;
  explicit EmbeddingModel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Orders texts by how well they answer a query. A cross-encoder (a sequence classifier with one label) reads
/// query and text together; any other embedding model compares their vectors. Thread-safe as EmbeddingModel
/// is.
class Reranker {
 public:
  static std::shared_ptr<Reranker> load(const std::filesystem::path& path,
                                        const EmbeddingLoadOptions& options = {});
  ~Reranker();
  Reranker(const Reranker&) = delete;
  Reranker& operator=(const Reranker&) = delete;

  bool is_cross_encoder() const noexcept;
  /// One score a text, higher is better: the classifier's output after its own activation (usually a
  /// sigmoid), or the cosine. Throws Error(invalid_argument) on an empty list.
  std::vector<float> score(std::string_view query, std::span<const std::string> texts) const;

 private:
  class Impl;
  explicit Reranker(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// a · b / (|a| |b|); 0 if either is zero. Throws Error(invalid_argument) if their sizes differ.
float cosine_similarity(std::span<const float> a, std::span<const float> b);

/// Each row scaled so that its largest component is ±127, then rounded: cosines survive, lengths do not.
std::vector<std::int8_t> to_int8(const Embeddings& embeddings);

/// One bit a component, set if it is positive, most significant bit first; rows of (columns + 7) / 8 bytes
/// (sentence-transformers' "ubinary").
std::vector<std::uint8_t> to_binary(const Embeddings& embeddings);

}  // namespace metal_candle
