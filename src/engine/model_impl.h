// What is behind a Model: the engine thread and everything that lives on it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "adapters/bound_adapter.h"
#include "engine/engine.h"
#include "inference/generation.h"
#include "inference/scheduler.h"
#include "metal_candle/model.h"
#include "metal_candle/tokenizer.h"
#include "models/decoder.h"
#include "tokenizer/chat_template.h"

namespace metal_candle {

class Model::Impl {
 public:
  Impl(const std::filesystem::path& path, const LoadOptions& options);
  ~Impl();

  const Tokenizer& require_tokenizer() const;
  Score score(std::span<const std::int32_t> tokens, unsigned top_k, const AdapterChoice& adapters);

  /// The choice fitted to this model; null for none. Any thread. Throws Error(invalid_argument) for one that
  /// does not fit.
  std::shared_ptr<const AdapterMix> mix(const AdapterChoice& choice) const;
  /// What a choice that says nothing means; null: none. Any thread.
  void set_applied(std::shared_ptr<const AdapterMix> mix);
  std::shared_ptr<const AdapterMix> applied() const;

  /// Checks the request on the calling thread, then hands it to the scheduler.
  void start(std::shared_ptr<Generation> generation);

  ModelInfo info;
  std::shared_ptr<const Tokenizer> tokenizer;  // null if the model has none
  std::optional<ChatTemplate> chat_template;
  std::uint32_t context_size = 0;
  simd::KvType kv_type = simd::KvType::f16;

 private:
  void load(const std::filesystem::path& path, const LoadOptions& options);

  mutable std::mutex applied_mutex_;
  std::shared_ptr<const AdapterMix> applied_;
  const std::uint64_t number_;  // of this model among all of the process

  // Made, used and destroyed on the engine thread.
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Scheduler> scheduler_;
  Engine engine_;  // last: its thread ends before what it uses goes
};

}  // namespace metal_candle
