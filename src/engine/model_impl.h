// What is behind a Model: the engine thread and everything that lives on it.
#pragma once

#include <memory>
#include <optional>

#include "engine/adapter_slot.h"
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
  Score score(std::span<const std::int32_t> tokens, unsigned top_k, const AdapterChoice& choice);

  /// Checks the request on the calling thread, then hands it to the scheduler.
  void start(std::shared_ptr<Generation> generation);

  ModelInfo info;
  AdapterSlot adapters;
  std::shared_ptr<const Tokenizer> tokenizer;  // null if the model has none
  std::optional<ChatTemplate> chat_template;
  std::uint32_t context_size = 0;
  simd::KvType kv_type = simd::KvType::f16;

 private:
  void load(const std::filesystem::path& path, const LoadOptions& options);

  // Made, used and destroyed on the engine thread.
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<Scheduler> scheduler_;
  Engine engine_;  // last: its thread ends before what it uses goes
};

}  // namespace metal_candle
