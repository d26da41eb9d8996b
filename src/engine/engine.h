// The one thread that touches MLX. Others send it commands; between commands it runs the scheduler.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

namespace metal_candle {

/// What the engine does when no command waits. Called on its thread.
enum class IdleWork { worked, stalled, idle };

/// Thread-safe. Destroying it finishes the commands already posted, then joins.
class Engine {
 public:
  Engine();
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// Runs `command` on the engine thread, in order of posting. It must not throw.
  void post(std::function<void()> command);

  /// Runs `f` on the engine thread and waits; its result or exception is the caller's.
  template <typename F>
  auto call(F&& f) -> std::invoke_result_t<F> {
    std::packaged_task<std::invoke_result_t<F>()> task(std::forward<F>(f));
    auto result = task.get_future();
    post([&task] { task(); });
    return result.get();
  }

  /// Sets what to do between commands; replaces the last. Engine thread only.
  void set_idle_work(std::function<IdleWork()> work) { idle_work_ = std::move(work); }

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> commands_;
  bool stop_ = false;
  std::function<IdleWork()> idle_work_;
  std::thread thread_;
};

}  // namespace metal_candle
