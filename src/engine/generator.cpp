// The public Generator and TokenStream: requests in, tokens out.
#include <limits>
#include <string>
#include <utility>

#include "engine/model_impl.h"
#include "engine/request.h"
#include "metal_candle/generate.h"

namespace metal_candle {
namespace {

constexpr std::size_t kUnbounded = std::numeric_limits<std::size_t>::max();

/// Moves the next token into the result; at the end completes its stats and returns false.
bool take_token(TokenStream& stream, GenerationResult& result) {
  std::optional<StreamToken> token = stream.next();
  if (!token) {
    result.stats = stream.stats();
    return false;
  }
  result.text += token->text;
  result.tokens.push_back(std::move(*token));
  return true;
}

/// Calls `f`; an Error that it throws then names the request of a batch.
template <typename F>
auto for_request(std::size_t index, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    throw Error(error.code(), "request " + std::to_string(index) + " of the batch: " + error.what());
  }
}

}  // namespace

std::string_view to_string(FinishReason reason) noexcept {
  switch (reason) {
    case FinishReason::none: return "none";
    case FinishReason::eos: return "eos";
    case FinishReason::stop: return "stop";
    case FinishReason::length: return "length";
    case FinishReason::cancelled: return "cancelled";
  }
  return "none";
}

double GenerationStats::prompt_tokens_per_second() const noexcept {
  return prompt_seconds > 0 ? static_cast<double>(prompt_tokens) / prompt_seconds : 0;
}

double GenerationStats::decode_tokens_per_second() const noexcept {
  return decode_seconds > 0 ? static_cast<double>(generated_tokens - 1) / decode_seconds : 0;
}

class TokenStream::Impl {
 public:
  Impl(std::shared_ptr<Model> model, GenerationRequest request, std::size_t queue_capacity)
      : model_(std::move(model)),
        generation_(std::make_shared<Generation>(std::move(request), queue_capacity)) {
    model_->impl().start(generation_);
  }
  ~Impl() { generation_->queue.cancel(); }

  std::optional<StreamToken> next() { return generation_->queue.pop(); }
  void cancel() noexcept { generation_->queue.cancel(); }
  GenerationStats stats() const { return generation_->stats(); }

 private:
  std::shared_ptr<Model> model_;
  std::shared_ptr<Generation> generation_;
};

TokenStream::TokenStream(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
TokenStream::TokenStream(TokenStream&&) noexcept = default;
TokenStream& TokenStream::operator=(TokenStream&&) noexcept = default;
TokenStream::~TokenStream() = default;

TokenStream::Iterator TokenStream::begin() {
  if (!current_) advance();
  return Iterator(this);
}
std::optional<StreamToken> TokenStream::next() { return impl_->next(); }
void TokenStream::cancel() noexcept { impl_->cancel(); }
GenerationStats TokenStream::stats() const { return impl_->stats(); }

Generator::Generator(std::shared_ptr<Model> model) : model_(std::move(model)) {
  if (!model_) throw Error(ErrorCode::invalid_argument, "Generator needs a model");
}

TokenStream Generator::generate_stream(const Prompt& prompt, const GenerateOptions& options) {
  return TokenStream(
      std::make_shared<TokenStream::Impl>(model_, make_request(*model_, prompt, options), kQueueCapacity));
}

GenerationStats Generator::generate_stream(const Prompt& prompt, const GenerateOptions& options,
                                           const std::function<bool(const StreamToken&)>& on_token) {
  TokenStream stream = generate_stream(prompt, options);
  std::size_t delivered = 0;
  for (const StreamToken& token : stream) {
    ++delivered;
    if (!on_token(token)) {
      stream.cancel();
      while (stream.next()) {
      }
      break;
    }
  }
  GenerationStats stats = stream.stats();
  if (stats.generated_tokens != delivered) stats.finish_reason = FinishReason::cancelled;
  stats.generated_tokens = delivered;  // the engine may have been a few tokens ahead
  return stats;
}

GenerationResult Generator::generate(const Prompt& prompt, const GenerateOptions& options) {
  GenerationResult result;
  TokenStream stream = generate_stream(prompt, options);
  while (take_token(stream, result)) {
  }
  return result;
}

std::vector<GenerationResult> Generator::generate_batch(std::span<const Prompt> prompts,
                                                        const GenerateOptions& options) {
  return generate_batch(prompts, std::vector<GenerateOptions>(prompts.size(), options));
}

std::vector<GenerationResult> Generator::generate_batch(std::span<const Prompt> prompts,
                                                        std::span<const GenerateOptions> options) {
  if (prompts.size() != options.size())
    throw Error(ErrorCode::invalid_argument, "a batch of " + std::to_string(prompts.size()) +
                                                 " prompts needs as many options, not " +
                                                 std::to_string(options.size()));
  std::vector<GenerationRequest> requests;
  for (std::size_t i = 0; i < prompts.size(); ++i)
    for_request(i, [&] { requests.push_back(make_request(*model_, prompts[i], options[i])); });
  // Without bounds on the queues no row waits for the reading of another. An exception destroys the streams,
  // which cancels what still runs.
  std::vector<TokenStream> streams;
  std::vector<std::size_t> running;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    for_request(i, [&] {
      streams.emplace_back(std::make_shared<TokenStream::Impl>(model_, std::move(requests[i]), kUnbounded));
    });
    running.push_back(i);
  }
  std::vector<GenerationResult> results(prompts.size());
  while (!running.empty())  // in turns, so that a failure is noticed while the others run
    std::erase_if(running, [&](std::size_t i) {
      return for_request(i, [&] { return !take_token(streams[i], results[i]); });
    });
  return results;
}

}  // namespace metal_candle
