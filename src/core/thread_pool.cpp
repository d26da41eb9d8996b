#include "core/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <string>
#include <system_error>

#include "core/cpu_quota.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// About 100 us of spinning: longer than the gap between two kernels of a token, far shorter than idleness.
constexpr int kSpins = 20000;

// Far beyond any machine this runs on; more is a slip of the finger.
constexpr unsigned kMostThreads = 1024;

inline void relax() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

unsigned ThreadPool::default_threads() {
  unsigned count = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = std::max(1, CPU_COUNT(&set));
#endif
  const unsigned limit = cpu_quota();
  return limit == 0 ? count : std::min(count, limit);
}

ThreadPool::ThreadPool(unsigned threads) : size_(std::max(1u, threads)) {
  if (size_ > kMostThreads)
    throw Error(ErrorCode::invalid_argument, std::to_string(size_) + " threads: use at most " +
                                                 std::to_string(kMostThreads) +
                                                 ", best as many as there are CPUs");
  workers_.reserve(size_ - 1);
  try {
    for (unsigned i = 1; i < size_; ++i) workers_.emplace_back([this, i] { worker(i); });
  } catch (const std::system_error& error) {
    stop();
    throw Error(ErrorCode::invalid_argument, std::to_string(size_) + " threads: the system starts only " +
                                                 std::to_string(workers_.size() + 1) + " (" +
                                                 error.code().message() + "); use fewer");
  } catch (...) {
    stop();
    throw;
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() noexcept {
  stop_.store(true);
  epoch_.fetch_add(1);
  { std::lock_guard lock(sleep_); }  // a worker is now either awake or inside wait()
  wake_.notify_all();
  for (std::thread& thread : workers_) thread.join();
}

void ThreadPool::run_erased(Erased call, const void* task) {
  std::lock_guard region(region_);
  call_ = call;
  task_ = task;
  remaining_.store(size_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1);  // sequentially consistent, as sleepers_: one of the two sides sees the other
  if (sleepers_.load() > 0) {
    { std::lock_guard lock(sleep_); }
    wake_.notify_all();
  }
  call(task, 0);
  for (int spin = 0; remaining_.load(std::memory_order_acquire) != 0; ++spin) {
    if (spin < kSpins)
      relax();
    else
      std::this_thread::yield();
  }
}

void ThreadPool::worker(unsigned index) {
  std::uint64_t seen = 0;
  for (;;) {
    int spin = 0;
    while (epoch_.load(std::memory_order_acquire) == seen && spin < kSpins) {
      relax();
      ++spin;
    }
    if (epoch_.load(std::memory_order_acquire) == seen) {
      std::unique_lock lock(sleep_);
      sleepers_.fetch_add(1);
      wake_.wait(lock, [&] { return epoch_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    if (stop_.load(std::memory_order_relaxed)) return;
    seen = epoch_.load(std::memory_order_acquire);
    call_(task_, index);
    remaining_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::barrier() noexcept {
  if (size_ == 1) return;
  const unsigned phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; ++spin) {
    if (spin < kSpins)
      relax();
    else
      std::this_thread::yield();
  }
}

}  // namespace metal_candle
