#include "core/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <numeric>

#include "support/expect_error.h"

namespace metal_candle {
namespace {

TEST(ThreadPool, EveryIndexRunsOncePerRegion) {
  ThreadPool pool(3);
  std::vector<int> hits(3, 0);
  for (int region = 0; region < 1000; ++region) pool.run([&](unsigned i) { ++hits[i]; });
  EXPECT_EQ(hits, (std::vector<int>{1000, 1000, 1000}));
}

TEST(ThreadPool, ParallelForCoversTheRangeExactlyOnce) {
  ThreadPool pool(2);
  for (std::size_t n : {0u, 1u, 7u, 64u, 1000u}) {
    std::vector<int> hits(n, 0);
    pool.parallel_for(n, 8, [&](std::size_t b, std::size_t e) {
      for (std::size_t i = b; i < e; ++i) ++hits[i];
    });
    EXPECT_EQ(std::accumulate(hits.begin(), hits.end(), 0u), n);
    for (int h : hits) EXPECT_EQ(h, 1);
  }
}

TEST(ThreadPool, BarrierSeparatesPhases) {
  ThreadPool pool(4);
  for (int round = 0; round < 200; ++round) {
    std::vector<int> first(4, 0);
    std::atomic<int> bad{0};
    pool.run([&](unsigned i) {
      first[i] = 1;
      pool.barrier();
      if (std::accumulate(first.begin(), first.end(), 0) != 4) ++bad;
      pool.barrier();
    });
    ASSERT_EQ(bad, 0);
  }
}

TEST(ThreadPool, WakesSleepingWorkers) {
  ThreadPool pool(2);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> ran{0};
    pool.run([&](unsigned) { ++ran; });
    EXPECT_EQ(ran, 2);
  }
}

TEST(ThreadPool, ConcurrentCallersTakeTurns) {
  ThreadPool pool(2);
  std::atomic<int> total{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 100; ++i) pool.run([&](unsigned) { ++total; });
    });
  for (auto& t : callers) t.join();
  EXPECT_EQ(total, 4 * 100 * 2);
}

TEST(ThreadPool, RefusesMoreThreadsThanThereCanBe) {
  EXPECT_MC_ERROR(ThreadPool(1025), ErrorCode::invalid_argument, "1024");
  EXPECT_MC_ERROR(ThreadPool(4000000000u), ErrorCode::invalid_argument, "1024");
}

// Started workers must be joined before the refusal is thrown. Sanitizers map more than the limit themselves.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(ThreadPool, RefusesWhatTheSystemWillNotStart) {
  const auto start_under_limit = [] {
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = std::size_t{1} << 30;  // stacks of 8 MiB: room for about a hundred
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(3);
    try {
      ThreadPool pool(1024);
    } catch (const Error& error) {
      _exit(error.code() == ErrorCode::invalid_argument ? 0 : 1);
    }
    _exit(2);
  };
  EXPECT_EXIT(start_under_limit(), testing::ExitedWithCode(0), "");
}
#endif

}  // namespace
}  // namespace metal_candle
