// Awaited streams on a tiny model: same tokens as blocking ones, many at once, cancelled in every way.
#include "metal_candle/async.h"

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <deque>
#include <exception>
#include <future>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "inference/token_stream.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

using namespace std::chrono_literals;

/// A coroutine that starts at once and tells its end through a future.
class Task {
 public:
  struct promise_type {
    std::promise<std::vector<StreamToken>> result;
    Task get_return_object() { return Task(result.get_future()); }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_value(std::vector<StreamToken> tokens) { result.set_value(std::move(tokens)); }
    void unhandled_exception() { result.set_exception(std::current_exception()); }
  };
  std::vector<StreamToken> get() {
    if (future_.wait_for(60s) != std::future_status::ready) throw std::runtime_error("the coroutine hangs");
    return future_.get();
  }

 private:
  explicit Task(std::future<std::vector<StreamToken>> future) : future_(std::move(future)) {}
  std::future<std::vector<StreamToken>> future_;
};

/// A coroutine whose frame the test destroys.
struct Handle {
  struct promise_type {
    Handle get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
  std::coroutine_handle<promise_type> frame;
};

/// An event loop that runs on whichever thread calls run_one().
class Loop {
 public:
  AsyncExecutor executor() {
    return [this](std::function<void()> task) {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
      posted_.notify_one();
    };
  }
  /// False if nothing was posted in time.
  bool wait_for_task(std::chrono::milliseconds patience = 60s) {
    std::unique_lock lock(mutex_);
    return posted_.wait_for(lock, patience, [this] { return !tasks_.empty(); });
  }
  void run_one() {
    ASSERT_TRUE(wait_for_task());
    std::unique_lock lock(mutex_);
    const auto task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
  }

 private:
  std::mutex mutex_;
  std::condition_variable posted_;
  std::deque<std::function<void()>> tasks_;
};

Task collect(AsyncTokenStream stream) {
  std::vector<StreamToken> tokens;
  while (std::optional<StreamToken> token = co_await stream.next()) tokens.push_back(std::move(*token));
  co_return tokens;
}

std::vector<std::int32_t> ids(const std::vector<StreamToken>& tokens) {
  std::vector<std::int32_t> out;
  for (const StreamToken& t : tokens) out.push_back(t.token);
  return out;
}

class AsyncTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    model = Model::load(std::string(MC_GOLDEN_DIR) + "/models/llama3/model.gguf", {.threads = 2});
  }
  static void TearDownTestSuite() { model.reset(); }

  static GenerateOptions options(std::uint32_t max_tokens, std::uint64_t seed = 0) {
    GenerateOptions o;
    o.max_tokens = max_tokens;
    o.ignore_eos = true;
    o.sampling.temperature = seed ? 1.0f : 0.0f;
    o.sampling.seed = seed;
    return o;
  }
  static std::vector<std::int32_t> blocking(const GenerateOptions& o) {
    return ids(Generator(model).generate(prompt, o).tokens);
  }
  /// What the engine does for others while a consumer of a stream misbehaves.
  static void expect_engine_is_free() { EXPECT_EQ(blocking(options(3)).size(), 3u); }

  static std::shared_ptr<Model> model;
  static inline const std::vector<std::int32_t> prompt{1, 5, 9, 13, 17};
};
std::shared_ptr<Model> AsyncTest::model;

TEST_F(AsyncTest, GivesTheTokensOfABlockingStream) {
  const std::vector<StreamToken> expected = Generator(model).generate(prompt, options(20)).tokens;
  const std::vector<StreamToken> tokens = collect(generate_stream_async(model, prompt, options(20))).get();
  ASSERT_EQ(ids(tokens), ids(expected));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i].index, i);
    EXPECT_EQ(tokens[i].text, expected[i].text);
    EXPECT_EQ(tokens[i].logprob, expected[i].logprob);
  }
  EXPECT_EQ(tokens.back().finish_reason, FinishReason::length);
}

TEST_F(AsyncTest, ManyStreamsFromManyThreadsGetTheirOwnTokens) {
  constexpr std::size_t kThreads = 4, kEach = 3;
  std::vector<std::vector<std::int32_t>> expected(kThreads * kEach), got(kThreads * kEach);
  const auto option = [](std::size_t i) { return options(20 + static_cast<std::uint32_t>(i), 1 + i); };
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = blocking(option(i));
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        std::vector<Task> tasks;
        for (std::size_t i = t; i < got.size(); i += kThreads)
          tasks.push_back(collect(generate_stream_async(model, prompt, option(i))));
        for (std::size_t i = 0; i < tasks.size(); ++i) got[t + i * kThreads] = ids(tasks[i].get());
      });
  }
  EXPECT_EQ(got, expected);
}

TEST_F(AsyncTest, ResumesOnTheExecutorOnly) {
  Loop loop;
  std::vector<std::thread::id> where;
  std::size_t tokens = 0;
  bool done = false;
  const auto run = [&](AsyncTokenStream stream) -> Handle {
    while (co_await stream.next()) {
      ++tokens;
      where.push_back(std::this_thread::get_id());
    }
    done = true;
  };
  const Handle handle = run(generate_stream_async(model, prompt, options(10), {}, loop.executor()));
  while (!done) loop.run_one();
  EXPECT_EQ(tokens, 10u);
  for (const std::thread::id id : where) EXPECT_EQ(id, std::this_thread::get_id());
  handle.frame.destroy();
}

TEST_F(AsyncTest, AnExecutorThatThrowsLosesNothing) {
  const AsyncExecutor broken = [](const std::function<void()>&) { throw std::runtime_error("full"); };
  EXPECT_EQ(ids(collect(generate_stream_async(model, prompt, options(12), {}, broken)).get()),
            blocking(options(12)));
}

TEST_F(AsyncTest, TheExecutorDoesNotWaitAndASlowOneHoldsUpNobody) {
  Loop loop;  // nobody runs it for now
  std::size_t tokens = 0;
  bool done = false;
  const auto run = [&](AsyncTokenStream stream) -> Handle {
    while (co_await stream.next()) ++tokens;
    done = true;
  };
  // More tokens than the queue's 64: the engine must wait for this consumer, and only this request must.
  const Handle handle = run(generate_stream_async(model, prompt, options(100), {}, loop.executor()));
  EXPECT_FALSE(done) << "the first co_await must suspend: the executor's thread is here";
  ASSERT_TRUE(loop.wait_for_task());
  std::this_thread::sleep_for(50ms);  // time to run ahead, if it would
  expect_engine_is_free();
  EXPECT_EQ(tokens, 0u);
  while (!done) loop.run_one();
  EXPECT_EQ(tokens, 100u);
  handle.frame.destroy();
}

TEST_F(AsyncTest, DestroyingTheStreamMidWayEndsTheGeneration) {
  const auto three = [](AsyncTokenStream stream) -> Task {
    std::vector<StreamToken> tokens;
    while (tokens.size() < 3) tokens.push_back(*co_await stream.next());
    co_return tokens;
  };
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(three(generate_stream_async(model, prompt, options(200))).get().size(), 3u);
  }
  expect_engine_is_free();
}

TEST_F(AsyncTest, DestroyingASuspendedCoroutineMakesItsWakeUpANoOp) {
  Loop loop;
  bool resumed = false;
  const auto run = [&](AsyncTokenStream stream) -> Handle {
    co_await stream.next();
    resumed = true;
  };
  const Handle early = run(generate_stream_async(model, prompt, options(100), {}, loop.executor()));
  early.frame.destroy();  // perhaps before the engine made a token
  const Handle late = run(generate_stream_async(model, prompt, options(100), {}, loop.executor()));
  ASSERT_TRUE(loop.wait_for_task());
  std::this_thread::sleep_for(20ms);
  late.frame.destroy();  // after its task was posted
  while (loop.wait_for_task(50ms)) loop.run_one();
  EXPECT_FALSE(resumed);
  expect_engine_is_free();
}

TEST_F(AsyncTest, DestroyingAStreamThatAnotherAwaitsEndsTheWait) {
  auto stream = std::make_unique<AsyncTokenStream>(generate_stream_async(model, prompt, options(150)));
  const auto one = [](AsyncTokenStream& borrowed) -> Task {
    std::vector<StreamToken> tokens;
    if (std::optional<StreamToken> token = co_await borrowed.next()) tokens.push_back(std::move(*token));
    co_return tokens;
  };
  Task task = one(*stream);
  stream.reset();
  EXPECT_LE(task.get().size(), 1u);
}

TEST_F(AsyncTest, AStopTokenCancels) {
  std::stop_source source;
  const auto run = [&](AsyncTokenStream stream) -> Task {
    std::vector<StreamToken> tokens;
    while (std::optional<StreamToken> token = co_await stream.next()) {
      tokens.push_back(std::move(*token));
      if (tokens.size() == 2) source.request_stop();
    }
    EXPECT_EQ(stream.stats().finish_reason, FinishReason::cancelled);
    EXPECT_EQ(stream.stats().generated_tokens, tokens.size());
    co_return tokens;
  };
  const auto tokens = run(generate_stream_async(model, prompt, options(200), source.get_token())).get();
  EXPECT_GE(tokens.size(), 2u);
  EXPECT_LE(tokens.size(), 2u + 64u + 2u) << "at most what the engine had made already";

  const auto none = collect(generate_stream_async(model, prompt, options(200), source.get_token())).get();
  EXPECT_LE(none.size(), 1u) << "stopped before it began";
}

TEST_F(AsyncTest, CancelFromAnotherThreadWakesASuspendedCoroutine) {
  for (int round = 0; round < 20; ++round) {
    std::stop_source source;
    Task task = collect(generate_stream_async(model, prompt, options(200), source.get_token()));
    std::jthread canceller([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
      source.request_stop();
    });
    EXPECT_LE(task.get().size(), 200u);
  }
}

TEST_F(AsyncTest, BadRequestsThrowBeforeAnythingRuns) {
  EXPECT_MC_ERROR(generate_stream_async(nullptr, prompt), ErrorCode::invalid_argument, "model");
  EXPECT_MC_ERROR(generate_stream_async(model, std::vector<std::int32_t>{}), ErrorCode::invalid_argument,
                  "at least one");
  GenerateOptions bad;
  bad.sampling.top_p = 2;
  EXPECT_MC_ERROR(generate_stream_async(model, prompt, bad), ErrorCode::invalid_argument, "top_p");
}

TEST_F(AsyncTest, TheStreamKeepsTheModelAlive) {
  auto own = Model::load(std::string(MC_GOLDEN_DIR) + "/models/llama3/model.gguf", {.threads = 1});
  Task task = collect(generate_stream_async(own, prompt, options(30)));
  own.reset();
  EXPECT_EQ(task.get().size(), 30u);
}

TEST(TokenQueueCall, ComesOnceForAnItemOrTheEnd) {
  TokenQueue<int> queue(4);
  int calls = 0;
  EXPECT_FALSE(queue.ready());
  EXPECT_TRUE(queue.call_when_ready([&] { ++calls; }));
  EXPECT_EQ(calls, 0);
  queue.push(1);
  queue.push(2);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(queue.ready());
  EXPECT_FALSE(queue.call_when_ready([&] { calls += 100; })) << "an item waits";
  queue.pop();
  queue.pop();
  EXPECT_TRUE(queue.call_when_ready([&] { ++calls; }));
  queue.close(std::make_exception_ptr(Error(ErrorCode::out_of_memory, "no room")));
  EXPECT_EQ(calls, 2);
  EXPECT_FALSE(queue.call_when_ready([&] { calls += 100; })) << "closed";
  EXPECT_MC_ERROR(queue.pop(), ErrorCode::out_of_memory, "no room");
  EXPECT_EQ(queue.pop(), std::nullopt);
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace metal_candle
