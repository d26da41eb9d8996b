#include "inference/token_stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "metal_candle/error.h"

namespace metal_candle {
namespace {

using namespace std::chrono_literals;

TEST(TokenQueue, DeliversEverythingInOrderThroughASmallWindow) {
  for (const std::size_t capacity : {1u, 2u, 7u}) {
    TokenQueue<int> queue(capacity);
    std::jthread producer([&] {
      for (int i = 0; i < 3000; ++i) ASSERT_TRUE(queue.push(i));
      queue.close();
    });
    int expected = 0;
    while (const auto item = queue.pop()) ASSERT_EQ(*item, expected++);
    EXPECT_EQ(expected, 3000);
  }
}

TEST(TokenQueue, BackPressureStopsTheProducerAtTheCapacity) {
  TokenQueue<int> queue(3);
  std::atomic<int> pushed{0};
  std::jthread producer([&] {
    for (int i = 0; i < 5; ++i) {
      if (queue.push(i)) ++pushed;
    }
    queue.close();
  });
  while (pushed < 3) std::this_thread::yield();
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(pushed, 3);
  EXPECT_EQ(queue.pop(), 0);
  while (pushed < 4) std::this_thread::yield();
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(pushed, 4);
  for (int i = 1; i < 5; ++i) EXPECT_EQ(queue.pop(), i);
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(TokenQueue, TryPushNeverWaitsAndKeepsTheItem) {
  TokenQueue<std::unique_ptr<int>> queue(1);
  auto a = std::make_unique<int>(1), b = std::make_unique<int>(2);
  EXPECT_EQ(queue.try_push(a), PushResult::pushed);
  EXPECT_EQ(queue.try_push(b), PushResult::full);
  ASSERT_TRUE(b);
  EXPECT_EQ(**queue.pop(), 1);
  EXPECT_EQ(queue.try_push(b), PushResult::pushed);
  queue.close();
  auto c = std::make_unique<int>(3);
  EXPECT_EQ(queue.try_push(c), PushResult::ended);
  EXPECT_TRUE(c);
}

TEST(TokenQueue, AnErrorComesOnceAfterTheItemsBeforeIt) {
  TokenQueue<std::string> queue(4);
  queue.push("before");
  queue.close(std::make_exception_ptr(Error(ErrorCode::out_of_memory, "no room")));
  queue.close();  // the first close wins
  EXPECT_EQ(queue.pop(), "before");
  try {
    queue.pop();
    ADD_FAILURE() << "no exception";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::out_of_memory);
  }
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(TokenQueue, CancelFreesAWaitingProducerAndKeepsWhatWasMade) {
  TokenQueue<int> queue(1);
  std::atomic<bool> refused{false};
  std::jthread producer([&] {
    queue.push(1);
    refused = !queue.push(2);
    queue.close();
  });
  std::this_thread::sleep_for(10ms);
  queue.cancel();
  EXPECT_TRUE(queue.cancelled());
  EXPECT_TRUE(queue.stop_token().stop_requested());
  producer.join();
  EXPECT_TRUE(refused);
  EXPECT_EQ(queue.pop(), 1);
  EXPECT_EQ(queue.pop(), 2) << "made before the producer knew";
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(TokenQueue, AnExternalStopRequestCancels) {
  std::stop_source source;
  TokenQueue<int> queue(1, source.get_token());
  EXPECT_FALSE(queue.cancelled());
  source.request_stop();
  EXPECT_TRUE(queue.cancelled());
  EXPECT_FALSE(queue.push(1));
  int item = 2;
  EXPECT_EQ(queue.try_push(item), PushResult::pushed) << "what is made is delivered, room or not";

  TokenQueue<int> stopped_before(1, source.get_token());
  EXPECT_TRUE(stopped_before.cancelled());
}

TEST(TokenQueue, NoWakeUpIsLostWhenBothSidesRaceWithCancel) {
  for (int round = 0; round < 100; ++round) {
    TokenQueue<int> queue(1 + round % 3);
    std::jthread producer([&] {
      for (int i = 0; queue.push(i); ++i) {
      }
      queue.close();
    });
    std::jthread canceller([&] {
      for (int i = 0; i < round % 50; ++i) std::this_thread::yield();
      queue.cancel();
    });
    int expected = 0;
    while (const auto item = queue.pop()) ASSERT_EQ(*item, expected++);
  }
}

}  // namespace
}  // namespace metal_candle
