// LoRA adapters: loading them, keeping many of them by name, and saying which a request uses. Formats and
// what is honoured of each: docs/adapters.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metal_candle/error.h"

namespace metal_candle {

/// One module that an adapter changes.
struct AdapterModule {
  std::string name;  ///< As Hugging Face names it: "model.layers.0.self_attn.q_proj".
  std::string kind;  ///< "lora", "dora" or "replaced" (weights stored whole, or some rows of them).
  std::uint32_t rank = 0;
  float scale = 0;  ///< Factor of B·A: alpha / rank, or what the format says.
  std::uint64_t bytes = 0;
};

/// What an adapter says of itself.
struct AdapterInfo {
  std::string path;         ///< Where it was read.
  std::string format;       ///< "peft", "mlx" or "gguf".
  std::string base_model;   ///< As the adapter names it; may be empty.
  std::string hash;         ///< Of its content, the same in every format: 32 hexadecimal digits.
  std::uint32_t rank = 0;   ///< The largest.
  std::uint64_t bytes = 0;  ///< Memory that it takes.
  std::vector<AdapterModule> modules;
};

/// What the writing of some formats needs to know of the model that an adapter is for (ModelInfo has it).
struct AdapterBase {
  std::string architecture = {};  ///< "llama", "qwen2", ...
  std::uint32_t head_dim = 0;
};

/// A loaded adapter: immutable, so any thread may share it, and a request that uses it keeps it whatever
/// becomes of the name it had.
class Adapter {
 public:
  /// Reads a directory of PEFT or mlx-lm, or a GGUF adapter. Does not need the model: whether it fits is
  /// checked when it is used. Throws Error(not_found | malformed_file | unsupported) naming file and field or
  /// tensor.
  static std::shared_ptr<const Adapter> load(const std::filesystem::path& path);
  ~Adapter();
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  const AdapterInfo& info() const noexcept;

  /// Writes it as a directory of "peft" or "mlx" or a "gguf" file, which the format's own library loads to
  /// the same result. `base` is needed only where a file orders rows by attention head or names an
  /// architecture: for GGUF. Throws Error(invalid_argument) for another format or a missing base,
  /// Error(unsupported) naming what the format cannot say, Error(io_error).
  void save(const std::filesystem::path& path, std::string_view format, const AdapterBase& base = {}) const;

  class Impl;
  Impl& impl() const noexcept { return *impl_; }

 private:
  explicit Adapter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// An adapter and the weight of its change; the changes of several add up.
struct AdapterUse {
  std::shared_ptr<const Adapter> adapter;
  float scale = 1;
};

/// What a request uses: nothing said, the model's own (ApplyAdapter); an empty list, none.
using AdapterChoice = std::optional<std::vector<AdapterUse>>;

/// What has an adapter that requests use unless they say otherwise. Thread-safe: requests that run keep
/// theirs.
class ApplyAdapter {
 public:
  virtual ~ApplyAdapter() = default;
  /// Never copies the model's weights. Throws Error(invalid_argument) naming the module, what was expected
  /// and what was found, if the adapter does not fit; then nothing changes.
  virtual void apply_adapter(std::shared_ptr<const Adapter> adapter, float scale = 1) = 0;
  virtual void remove_adapter() noexcept = 0;
  virtual bool has_adapter() const noexcept = 0;
};

struct AdapterRegistryOptions {
  /// Bytes of adapters to keep in memory; the least recently used go first and are read again when asked for.
  /// 0: no limit.
  std::uint64_t memory_budget = 0;
};

/// One name of a registry.
struct AdapterEntry {
  std::string name;
  AdapterInfo info;
  bool resident = false;  ///< In memory; otherwise it is read again from info.path when it is used.
  bool active = false;
};

/// Adapters by name. Thread-safe: any thread may load, replace, list and unload while others generate. A
/// failed call leaves everything as it was.
class AdapterRegistry {
 public:
  explicit AdapterRegistry(AdapterRegistryOptions options = {});
  ~AdapterRegistry();
  AdapterRegistry(const AdapterRegistry&) = delete;
  AdapterRegistry& operator=(const AdapterRegistry&) = delete;

  /// Reads an adapter and gives it a name, replacing what had it. Names are 1 to 128 letters, digits and
  /// "._-", not beginning with a dot. Throws as Adapter::load does; Error(invalid_argument) for a name;
  /// Error(out_of_memory) for an adapter beyond the whole budget.
  std::shared_ptr<const Adapter> load_adapter(const std::string& name, const std::filesystem::path& path);
  std::shared_ptr<const Adapter> load_adapter_from_checkpoint(const std::string& name,
                                                              const std::filesystem::path& path) {
    return load_adapter(name, path);
  }
  /// Gives a name to an adapter that is loaded already.
  void add_adapter(const std::string& name, std::shared_ptr<const Adapter> adapter);
  /// Requests that use it are not disturbed. Throws Error(not_found).
  void unload_adapter(const std::string& name);

  /// Throws Error(not_found); Error(malformed_file) if it had to be read again and is no longer what it was.
  std::shared_ptr<const Adapter> get_adapter(const std::string& name) const;
  std::vector<AdapterEntry> list_adapters() const;  ///< By name.
  /// Bytes of the adapters in memory.
  std::uint64_t memory_used() const;

  /// Which adapter active() gives. Throws Error(not_found).
  void activate(const std::string& name);
  void deactivate() noexcept;
  std::optional<std::string> active_adapter() const;
  /// The active adapter at scale 1; an empty list if there is none.
  std::vector<AdapterUse> active() const;

  /// "NAME", "NAME:SCALE" or several of them between commas. Throws Error(not_found | invalid_argument).
  std::vector<AdapterUse> resolve(std::string_view text) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// How several adapters become one; linear to dare_ties as PEFT's add_weighted_adapter defines them.
enum class MixMethod {
  cat,        ///< Exactly the weighted sum; ranks add up.
  linear,     ///< Weighted sums of A and of B: near the sum only for adapters that are alike. Equal ranks.
  svd,        ///< The nearest adapter of `rank` to the weighted sum.
  ties,       ///< Largest values, majority's sign (arXiv:2306.01708). Equal ranks.
  dare_ties,  ///< Random values rescaled (arXiv:2311.03099), majority's sign. Equal ranks.
};

struct MixOptions {
  MixMethod method = MixMethod::cat;
  std::uint32_t rank = 0;  ///< Of svd; 0: the largest of the adapters'.
  double density = 1;      ///< Share of values that ties and dare_ties keep, (0, 1].
  std::uint64_t seed = 0;  ///< Of dare_ties.
};

/// A new adapter, f32. Throws Error(unsupported) naming the module for DoRA, biases and weights stored whole,
/// Error(invalid_argument) for adapters that do not fit together.
std::shared_ptr<const Adapter> mix_adapters(const std::vector<AdapterUse>& adapters,
                                            const MixOptions& options = {});

/// How far two adapters are apart in one module, in Frobenius norms of scale · B·A; 0 where one lacks it.
struct AdapterDifference {
  std::string module;
  double first = 0, second = 0, difference = 0;
};
/// By module. Throws as mix_adapters does.
std::vector<AdapterDifference> compare_adapters(const Adapter& first, const Adapter& second);

struct MergeOptions {
  /// Element type of the weights that change: f32, f16, bf16, and for GGUF q8_0, q5_1, q5_0, q4_1, q4_0;
  /// empty: each keeps its own.
  std::string type = {};
};

struct MergeReport {
  std::size_t modules = 0;    ///< Weights and biases changed.
  double change = 0;          ///< Frobenius norm of all changes.
  double rounding_error = 0;  ///< What rounding to the written element types lost, relative to `change`.
  double relative_error = 0;  ///< The same relative to the merged weights.
};

/// Writes the model with the adapters' changes in its weights: a Hugging Face directory, with the files
/// beside the weights, to a new directory, a GGUF file with its metadata to a new file. What no adapter
/// changes keeps its bytes. Throws Error(unsupported) for element types that cannot be written and for
/// adapters of a tied table, Error(invalid_argument) for adapters that do not fit or sums that are not
/// finite.
MergeReport merge_adapters(const std::filesystem::path& model, const std::vector<AdapterUse>& adapters,
                           const std::filesystem::path& output, const MergeOptions& options = {});

}  // namespace metal_candle
