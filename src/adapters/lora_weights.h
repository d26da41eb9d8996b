// The matrices of one adapter in the layout that kernels/lora multiplies, whatever format they came from.
// Names of tensors are the formats' business (formats.h), fitting them to a model that of models/.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapters/delta_places.h"
#include "io/mapped_file.h"
#include "io/module_names.h"
#include "io/stored_tensor.h"
#include "kernels/lora.h"
#include "kernels/weight_arena.h"

namespace metal_candle {

/// What a format found for one module of the model. Views into the files; null: there is none.
struct LoraSource {
  WeightId id;
  const StoredTensor* a = nullptr;
  const StoredTensor* b = nullptr;
  bool a_rank_first = true;   ///< a is [rank, in], else [in, rank]
  bool b_rank_first = false;  ///< b is [rank, out], else [out, rank]
  double scale = 1;
  const StoredTensor* magnitude = nullptr;  ///< DoRA: [out]
  const StoredTensor* bias = nullptr;       ///< of B: [out]
  const StoredTensor* rows = nullptr;       ///< replaces the weight, or its rows `replaced`: [rows, in]
  std::vector<std::uint32_t> replaced;      ///< ascending
  bool base_copy = false;  ///< rows are the base's own weight, saved along (PEFT does so for embeddings)
};

/// One adapted module. Views into the LoraWeights that holds it.
struct LoraModule {
  WeightId id;
  std::size_t in = 0, out = 0;  ///< of an embedding: vocabulary and width
  LoraDelta delta;              ///< without gain, which depends on the model
  std::span<const float> magnitude;
  bool base_copy = false;  ///< delta.rows must equal the model's
  std::size_t bytes = 0;
};

/// Modules of one role in successive layers that differ in nothing that a model is asked about.
struct LoraRun {
  WeightId id;  ///< of the first
  std::uint32_t layers = 1;
  bool matrices = false;  ///< not only rows
  std::size_t in = 0, out = 0;
  std::span<const std::uint32_t> replaced;  ///< then it is one module

  /// False if `next` does not go on with it.
  bool append(const LoraRun& next);
};

/// How the checkpoint orders the rows of q and k (io/weight_names has no say in it).
enum class RotaryOrder { halves, interleaved };

/// Immutable; shared by all requests that use it.
class LoraWeights {
 public:
  /// Copies, checks and hashes. `file` names the source in messages; `rotary`: how q's and k's outputs stand;
  /// `mapped`: files that tensors may lie in, which are read rather than their pages touched.
  /// Throws Error(malformed_file) naming the tensor if ranks disagree, a shape is no matrix or a value is not
  /// finite; Error(unsupported) for an element type that is no float.
  static std::shared_ptr<const LoraWeights> build(std::vector<LoraSource> sources, const std::string& file,
                                                  RotaryOrder rotary = RotaryOrder::halves,
                                                  ModuleNames names = {},
                                                  std::span<const MappedFile> mapped = {});

  std::span<const LoraModule> modules() const noexcept { return modules_; }
  /// What a model must know of them, by id, in few bytes: a load leaves the modules in no cache.
  std::span<const LoraRun> runs() const noexcept { return runs_; }
  /// Where its deltas go in any model that they fit; null if that, or a delta, depends on the model.
  const DeltaPlaces* places() const noexcept { return places_ ? &*places_ : nullptr; }
  /// Null if the module is not adapted.
  const LoraModule* find(WeightId id) const noexcept;
  RotaryOrder rotary() const noexcept { return rotary_; }
  /// What its modules are called; GGUF's too have Hugging Face's names here.
  const ModuleNames& names() const noexcept { return names_; }
  std::string name(WeightId id) const { return names_.name(id); }
  /// Of matrices and scales: the same for the same content in any format. 32 hexadecimal digits (XXH3-128).
  const std::string& hash() const noexcept { return hash_; }
  /// Memory that this object holds.
  std::size_t bytes() const noexcept;
  std::size_t max_rank() const noexcept;

  /// `weights` with q's and k's outputs in this order, for heads of `head_dim`; themselves if they are. The
  /// hash stays that of what was read. Throws Error(invalid_argument) naming `file` and a module that is no
  /// whole number of heads.
  static std::shared_ptr<const LoraWeights> ordered(std::shared_ptr<const LoraWeights> weights,
                                                    RotaryOrder order, std::size_t head_dim,
                                                    const std::string& file);

  LoraWeights(const LoraWeights&) = delete;
  LoraWeights& operator=(const LoraWeights&) = delete;

 private:
  friend class LoraBuilder;
  LoraWeights() = default;
  std::shared_ptr<LoraWeights> copy() const;
  void index();

  std::unique_ptr<WeightArena> memory_;
  std::byte* begin_ = nullptr;  // of memory_
  std::vector<std::uint32_t> replaced_;
  std::vector<LoraModule> modules_;  // by id
  std::vector<LoraRun> runs_;
  std::optional<DeltaPlaces> places_;
  RotaryOrder rotary_ = RotaryOrder::halves;
  ModuleNames names_;
  std::string hash_;
};

/// No model has more layers: what is made beforehand by layer ends here, since the file is not to say how
/// long that takes.
inline constexpr std::size_t kMostLayers = 1024;

/// The name of a causal decoder's module as Hugging Face writes it.
std::string module_name(WeightId id);

}  // namespace metal_candle
