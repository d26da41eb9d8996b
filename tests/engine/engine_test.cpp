#include "engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

#include "mlx/stream.h"

namespace metal_candle {
namespace {

TEST(Engine, CallsRunOnItsThreadAndReturn) {
  Engine engine;
  const auto id = engine.call([] { return std::this_thread::get_id(); });
  EXPECT_NE(id, std::this_thread::get_id());
  EXPECT_EQ(engine.call([] { return std::this_thread::get_id(); }), id);
  EXPECT_THROW(engine.call([] { throw std::runtime_error("x"); }), std::runtime_error);
}

TEST(Engine, PostsRunInOrderAndBeforeTheEnd) {
  std::vector<int> order;
  {
    Engine engine;
    for (int i = 0; i < 100; ++i) engine.post([&order, i] { order.push_back(i); });
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST(Engine, WorksBetweenCommandsUntilIdle) {
  std::atomic<int> steps{0};
  Engine engine;
  engine.call([&] {
    engine.set_idle_work([&] {
      if (steps >= 50) return IdleWork::idle;
      return ++steps % 2 ? IdleWork::worked : IdleWork::stalled;
    });
  });
  while (steps < 50) std::this_thread::yield();
  EXPECT_EQ(engine.call([&] { return steps.load(); }), 50);
  engine.call([&] { engine.set_idle_work({}); });
}

// MLX never ends a stream's thread: were each engine to make a stream, a program that reloads models would
// collect threads and their working memory.
TEST(Engine, StreamsPassFromEnginesThatEndedToNewOnes) {
  namespace mx = mlx::core;
  const auto stream_of = [](Engine& engine) {
    return engine.call([] { return mx::default_stream(mx::Device::cpu); });
  };
  Engine first, second;
  EXPECT_NE(stream_of(first), stream_of(second));
  const std::size_t before = mx::get_streams().size();
  for (int i = 0; i < 8; ++i) {
    Engine engine;
    stream_of(engine);
  }
  EXPECT_LE(mx::get_streams().size(), before + 1);
}

}  // namespace
}  // namespace metal_candle
