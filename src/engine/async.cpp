// Awaited generations: a coroutine's continuation waits in the token queue instead of a thread.
#include "metal_candle/async.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/model_impl.h"
#include "engine/request.h"

namespace metal_candle {
namespace {

/// The default executor: one thread for the whole process. Thread-safe. Never destroyed, so that a coroutine
/// which outlives main() finds it alive.
class CompletionThread {
 public:
  static CompletionThread& instance() {
    static auto* const thread = new CompletionThread;
    return *thread;
  }

  void post(std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    posted_.notify_one();
  }

 private:
  CompletionThread() {
    std::thread([this] { run(); }).detach();
  }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      posted_.wait(lock, [this] { return !tasks_.empty(); });
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
      task = nullptr;  // what it holds goes without the lock
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> tasks_;
};

}  // namespace

class AsyncTokenStream::Impl {
 public:
  Impl(std::shared_ptr<Model> owner, GenerationRequest request, std::stop_token stop, AsyncExecutor resume_on)
      : executor(std::move(resume_on)),
        model(std::move(owner)),
        generation(std::make_shared<Generation>(std::move(request), kQueueCapacity, std::move(stop))) {
    model->impl().start(generation);
  }
  ~Impl() { generation->queue.cancel(); }

  const AsyncExecutor executor;
  const std::shared_ptr<Model> model;
  const std::shared_ptr<Generation> generation;
};

/// One suspension. The task given to the executor and the awaiting coroutine's end race for `taken`: whoever
/// is first decides whether the coroutine resumes or was destroyed.
struct AsyncTokenStream::Next::Wait {
  explicit Wait(std::coroutine_handle<> waiting) : coroutine(waiting) {}
  void resume() {
    if (!taken.exchange(true)) coroutine.resume();
  }
  const std::coroutine_handle<> coroutine;
  std::atomic<bool> taken{false};
};

AsyncTokenStream::Next::~Next() {
  if (wait_) wait_->taken = true;
}

bool AsyncTokenStream::Next::await_ready() const { return impl_->generation->queue.ready(); }

bool AsyncTokenStream::Next::await_suspend(std::coroutine_handle<> coroutine) {
  wait_ = std::make_shared<Wait>(coroutine);
  // Once the call is registered the coroutine may run, and destroy *this, before we return. What the call
  // holds must not own the model either: the last owner may not let go of it on the engine thread.
  const std::shared_ptr<Generation> generation = impl_->generation;
  return generation->queue.call_when_ready([wait = wait_, executor = impl_->executor] {
    const auto task = [wait] { wait->resume(); };
    if (executor) {
      try {
        return executor(task);
      } catch (...) {  // a coroutine must not be lost: the default executor takes it
      }
    }
    CompletionThread::instance().post(task);
  });
}

std::optional<StreamToken> AsyncTokenStream::Next::await_resume() { return impl_->generation->queue.pop(); }

AsyncTokenStream::AsyncTokenStream(std::shared_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
AsyncTokenStream::AsyncTokenStream(AsyncTokenStream&&) noexcept = default;
AsyncTokenStream& AsyncTokenStream::operator=(AsyncTokenStream&& other) noexcept {
  if (impl_ && impl_ != other.impl_) cancel();
  impl_ = std::move(other.impl_);
  return *this;
}
AsyncTokenStream::~AsyncTokenStream() {
  if (impl_) cancel();  // a pending Next may own the generation for longer
}

AsyncTokenStream::Next AsyncTokenStream::next() { return Next(impl_); }
void AsyncTokenStream::cancel() noexcept { impl_->generation->queue.cancel(); }
GenerationStats AsyncTokenStream::stats() const { return impl_->generation->stats(); }

AsyncTokenStream generate_stream_async(std::shared_ptr<Model> model, const Prompt& prompt,
                                       const GenerateOptions& options, std::stop_token stop,
                                       AsyncExecutor executor) {
  if (!model) throw Error(ErrorCode::invalid_argument, "generate_stream_async needs a model");
  GenerationRequest request = make_request(*model, prompt, options);
  return AsyncTokenStream(std::make_shared<AsyncTokenStream::Impl>(std::move(model), std::move(request),
                                                                   std::move(stop), std::move(executor)));
}

}  // namespace metal_candle
