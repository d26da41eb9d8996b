#include "engine/engine.h"

#include <chrono>
#include <vector>

#include "mlx/stream.h"

namespace metal_candle {
namespace {

namespace mx = mlx::core;

// The calling thread's default CPU stream while this lives. MLX never ends a stream's thread, so streams, and
// the working memory of their threads, pass from engines that ended to new ones.
class StreamLease {
 public:
  StreamLease() : stream_(take()) { mx::set_default_stream(stream_); }
  ~StreamLease() {
    mx::synchronize(stream_);
    const std::lock_guard lock(idle().mutex);
    idle().streams.push_back(stream_);
  }
  StreamLease(const StreamLease&) = delete;
  StreamLease& operator=(const StreamLease&) = delete;

 private:
  struct Idle {
    std::mutex mutex;
    std::vector<mx::Stream> streams;
  };
  // Never destroyed: a model in a static variable may end after any other static.
  static Idle& idle() {
    static Idle* const idle = new Idle;
    return *idle;
  }
  static mx::Stream take() {
    const std::lock_guard lock(idle().mutex);
    if (idle().streams.empty()) return mx::new_thread_unsafe_stream(mx::Device::cpu);
    const mx::Stream stream = idle().streams.back();
    idle().streams.pop_back();
    return stream;
  }

  mx::Stream stream_;
};

// How long a stalled engine waits before it looks again whether a consumer has made room.
constexpr std::chrono::microseconds kStall{500};

}  // namespace

Engine::Engine() : thread_([this] { run(); }) {}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

void Engine::post(std::function<void()> command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  posted_.notify_one();
}

void Engine::run() {
  const StreamLease stream;
  std::deque<std::function<void()>> batch;
  for (;;) {
    const IdleWork state = idle_work_ ? idle_work_() : IdleWork::idle;
    {
      std::unique_lock lock(mutex_);
      const auto awaited = [&] { return stop_ || !commands_.empty(); };
      if (state == IdleWork::idle) posted_.wait(lock, awaited);
      if (state == IdleWork::stalled) posted_.wait_for(lock, kStall, awaited);
      if (stop_ && commands_.empty()) return;
      batch.swap(commands_);
    }
    for (auto& command : batch) command();
    batch.clear();
  }
}

}  // namespace metal_candle
