// Generating text from a coroutine: `co_await stream.next()`. Brings no task type or event loop of its own;
// any C++20 coroutine can await. Present if the library was built with METAL_CANDLE_ASYNC (the default).
#pragma once

#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "metal_candle/generate.h"

namespace metal_candle {

/// Where a coroutine goes on: called with a task, runs it later on a thread of its choice, for instance by
/// posting it to an event loop. It must not run the task within the call, for that is on the engine thread,
/// which makes every request's tokens. That thread may let go of it last, so it must not own a Model. If it
/// throws, the default executor runs the task.
using AsyncExecutor = std::function<void(std::function<void()> task)>;

/// A running generation that is awaited. Move-only; one coroutine awaits at a time. Destroying it cancels and
/// never waits. The engine runs at most 64 tokens ahead of the consumer, then sits this request out.
///
/// A coroutine suspended in next() may be destroyed where its executor runs tasks, since there it cannot be
/// about to resume; elsewhere call cancel() and let it end.
class AsyncTokenStream {
 public:
  class Impl;
  class Next;

  explicit AsyncTokenStream(std::shared_ptr<Impl> impl) noexcept;
  AsyncTokenStream(AsyncTokenStream&&) noexcept;
  AsyncTokenStream& operator=(AsyncTokenStream&&) noexcept;
  ~AsyncTokenStream();

  /// `co_await stream.next()`: the next token, or empty at the end, as std::optional<StreamToken>. Goes
  /// straight on if a token is there; otherwise the coroutine suspends and continues on the executor. Errors
  /// of the generation are thrown from the co_await, once.
  Next next();
  /// Ends the generation soon; tokens already made are still delivered. Any thread.
  void cancel() noexcept;
  /// Complete once the stream has ended.
  GenerationStats stats() const;

 private:
  std::shared_ptr<Impl> impl_;
};

/// What next() returns: await it at once. Neither copyable nor movable. Keeps the generation alive.
class [[nodiscard]] AsyncTokenStream::Next {
 public:
  explicit Next(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
  Next(const Next&) = delete;
  Next& operator=(const Next&) = delete;
  ~Next();

  bool await_ready() const;
  bool await_suspend(std::coroutine_handle<> coroutine);
  std::optional<StreamToken> await_resume();

 private:
  struct Wait;
  std::shared_ptr<Impl> impl_;
  std::shared_ptr<Wait> wait_;
};

/// Starts generating on the engine thread and returns at once. A stop request on `stop` cancels. Without an
/// executor coroutines resume on one thread that all such streams share: do not block there.
/// Throws Error(invalid_argument | context_overflow | unsupported) before anything runs.
AsyncTokenStream generate_stream_async(std::shared_ptr<Model> model, const Prompt& prompt,
                                       const GenerateOptions& options = {}, std::stop_token stop = {},
                                       AsyncExecutor executor = {});

}  // namespace metal_candle
