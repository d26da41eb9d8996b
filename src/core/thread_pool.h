// The process's one compute pool. Workers spin briefly, then sleep. Tasks must not throw.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace metal_candle {

/// A fixed team of threads that runs one parallel region at a time (SPMD).
/// run() and parallel_for() may be called from any thread, but not from inside a region;
/// concurrent callers take turns.
class ThreadPool {
 public:
  /// `threads` counts the calling thread: ThreadPool(2) starts one worker. At least 1.
  /// Throws Error(invalid_argument) above 1024 and where the system starts fewer.
  explicit ThreadPool(unsigned threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  unsigned size() const noexcept { return size_; }

  /// Calls task(index) once on each of size() threads, index 0 on the caller's, and returns when all are
  /// done.
  template <typename F>
  void run(const F& task) {
    if (size_ == 1) return task(0u);
    run_erased([](const void* f, unsigned index) { (*static_cast<const F*>(f))(index); }, &task);
  }

  /// Only inside run(): waits until all size() threads have arrived.
  void barrier() noexcept;

  /// Calls body(begin, end) over [0, n) in pieces of `grain`, handed out dynamically.
  template <typename F>
  void parallel_for(std::size_t n, std::size_t grain, const F& body) {
    if (n == 0) return;
    if (size_ == 1 || n <= grain) return body(std::size_t{0}, n);
    std::atomic<std::size_t> next{0};
    run([&](unsigned) {
      for (;;) {
        const std::size_t begin = next.fetch_add(grain, std::memory_order_relaxed);
        if (begin >= n) return;
        body(begin, begin + grain < n ? begin + grain : n);
      }
    });
  }

  /// CPUs this process may use: affinity mask and cgroup quota, at least 1.
  static unsigned default_threads();

 private:
  using Erased = void (*)(const void*, unsigned);
  void run_erased(Erased call, const void* task);
  void worker(unsigned index);
  void stop() noexcept;

  const unsigned size_;
  std::mutex region_;  // one region at a time
  Erased call_ = nullptr;
  const void* task_ = nullptr;
  alignas(64) std::atomic<std::uint64_t> epoch_{0};  // a new value starts a region
  alignas(64) std::atomic<unsigned> remaining_{0};   // workers still inside it
  alignas(64) std::atomic<unsigned> arrived_{0};
  alignas(64) std::atomic<unsigned> phase_{0};
  std::mutex sleep_;
  std::condition_variable wake_;
  std::atomic<unsigned> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace metal_candle
