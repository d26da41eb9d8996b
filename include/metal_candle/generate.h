// Generating text: all at once, as a range, or through a callback. Sampling parameters are in sampling.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "metal_candle/model.h"
#include "metal_candle/sampling.h"

namespace metal_candle {

enum class FinishReason {
  none,       ///< Not finished.
  eos,        ///< The model ended its answer.
  stop,       ///< A stop string or stop token of the request.
  length,     ///< max_tokens reached, or the context is full.
  cancelled,  ///< The caller stopped it.
};
/// "eos", "stop", "length", "cancelled", "none".
std::string_view to_string(FinishReason reason) noexcept;

/// One generated token and what the model thought of it.
struct StreamToken {
  std::int32_t token = 0;
  /// Text that became certain with this token; valid UTF-8, empty until a character is whole or while it
  /// may begin a stop string. The texts of a generation, joined, are its text.
  std::string text;
  float probability = 0;  ///< exp(logprob).
  float logit = 0;        ///< The model's raw output for this token.
  float logprob = 0;      ///< Natural log of the softmax of the raw logits (before temperature and filters).
  bool is_eos = false;
  std::size_t index = 0;                            ///< 0 for the first generated token.
  FinishReason finish_reason = FinishReason::none;  ///< Set on the last token.
  std::vector<TokenLogprob> top;                    ///< The `logprobs` best tokens, best first.
};

/// Text (tokenized with the tokenizer's own BOS rule, special tokens recognised) or ready-made token ids.
class Prompt {
 public:
  Prompt(std::string text) : value_(std::move(text)) {}                    // NOLINT: implicit by design
  Prompt(const char* text) : value_(std::string(text)) {}                  // NOLINT
  Prompt(std::string_view text) : value_(std::string(text)) {}             // NOLINT
  Prompt(std::vector<std::int32_t> tokens) : value_(std::move(tokens)) {}  // NOLINT
  const std::string* text() const noexcept { return std::get_if<std::string>(&value_); }
  const std::vector<std::int32_t>* tokens() const noexcept {
    return std::get_if<std::vector<std::int32_t>>(&value_);
  }

 private:
  std::variant<std::string, std::vector<std::int32_t>> value_;
};

struct GenerateOptions {
  SamplingParams sampling = {};                ///< Defaults to greedy.
  std::uint32_t max_tokens = 256;              ///< Also bounded by the context.
  std::vector<std::string> stop = {};          ///< Generation ends before any of these appears in the text.
  std::vector<std::int32_t> stop_tokens = {};  ///< Each ends the answer, as the model's own end tokens do.
  bool ignore_eos = false;                     ///< Go on past EOS (benchmarks).
  AdapterChoice adapters = {};                 ///< Adapters of this request; the model's own unless given.
};

struct GenerationStats {
  std::size_t prompt_tokens = 0;
  std::size_t generated_tokens = 0;
  double prompt_seconds = 0;  ///< Until the first token was sampled.
  double decode_seconds = 0;  ///< From then to the last token.
  FinishReason finish_reason = FinishReason::none;
  double prompt_tokens_per_second() const noexcept;
  double decode_tokens_per_second() const noexcept;  ///< Tokens after the first, per decode second.
};

struct GenerationResult {
  std::string text;
  std::vector<StreamToken> tokens;
  GenerationStats stats;
};

/// A running generation as a C++ input range of StreamToken. Move-only; one consumer. Destroying it cancels.
class TokenStream {
 public:
  class Iterator {
   public:
    using value_type = StreamToken;
    using difference_type = std::ptrdiff_t;
    Iterator() = default;
    explicit Iterator(TokenStream* stream) : stream_(stream) {}
    const StreamToken& operator*() const { return *stream_->current_; }
    const StreamToken* operator->() const { return &*stream_->current_; }
    Iterator& operator++() {
      stream_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) { return it.done(); }

   private:
    bool done() const { return !stream_->current_; }
    TokenStream* stream_ = nullptr;
  };

  TokenStream(TokenStream&&) noexcept;
  TokenStream& operator=(TokenStream&&) noexcept;
  ~TokenStream();

  /// Waits for the first token. Errors of the generation are thrown here and by ++.
  Iterator begin();
  std::default_sentinel_t end() const noexcept { return {}; }

  /// The next token, or empty at the end. The range interface in other words.
  std::optional<StreamToken> next();
  /// Ends the generation soon; tokens already made are still delivered. Any thread.
  void cancel() noexcept;
  /// Complete once the stream has ended.
  GenerationStats stats() const;

  class Impl;
  explicit TokenStream(std::shared_ptr<Impl> impl);

 private:
  void advance() { current_ = next(); }
  std::shared_ptr<Impl> impl_;
  std::optional<StreamToken> current_;
};

/// Generates from a shared model. Cheap to construct; thread-safe.
class Generator {
 public:
  explicit Generator(std::shared_ptr<Model> model);

  /// Runs to the end. Throws Error(invalid_argument | context_overflow | ...).
  GenerationResult generate(const Prompt& prompt, const GenerateOptions& options = {});

  /// Starts generating on the engine thread and returns at once.
  TokenStream generate_stream(const Prompt& prompt, const GenerateOptions& options = {});

  /// Calls `on_token` on the calling thread for each token; returning false stops early
  /// (FinishReason::cancelled).
  GenerationStats generate_stream(const Prompt& prompt, const GenerateOptions& options,
                                  const std::function<bool(const StreamToken&)>& on_token);

  /// Runs all requests at once, each with its own sampling; their rows share the forward passes. The results
  /// stand in the order of the prompts and hold the tokens that each request gets alone. The first failure
  /// cancels the others and is thrown, naming the request.
  std::vector<GenerationResult> generate_batch(std::span<const Prompt> prompts,
                                               const GenerateOptions& options = {});
  /// One of `options` for each prompt; Error(invalid_argument) if their numbers differ.
  std::vector<GenerationResult> generate_batch(std::span<const Prompt> prompts,
                                               std::span<const GenerateOptions> options);

 private:
  std::shared_ptr<Model> model_;
};

}  // namespace metal_candle
